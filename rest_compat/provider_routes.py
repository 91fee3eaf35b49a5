"""The routes by which administrators keep providers."""

from __future__ import annotations

from types import NoneType

from resolvers.access import ADMIN
from rest_compat import admin_providers
from rest_compat.admin_providers import ProviderObject, ProviderPatch, ProviderRequest, ProviderTest
from rest_compat.endpoint import bare, operation

OPERATIONS = (
    bare("GET", "/v1/admin/providers", ADMIN, admin_providers.list_all, response=list[ProviderObject]),
    operation(
        "POST", "/v1/admin/providers", ADMIN, admin_providers.create,
        request=ProviderRequest, response=ProviderObject,
    ),
    bare("GET", "/v1/admin/providers/{id}", ADMIN, admin_providers.get, response=ProviderObject),
    operation(
        "PATCH", "/v1/admin/providers/{id}", ADMIN, admin_providers.update,
        request=ProviderPatch, response=ProviderObject,
    ),
    bare("DELETE", "/v1/admin/providers/{id}", ADMIN, admin_providers.delete, response=NoneType),
    bare("POST", "/v1/admin/providers/{id}/sync", ADMIN, admin_providers.sync, response=ProviderObject),
    bare("POST", "/v1/admin/providers/{id}/test", ADMIN, admin_providers.test, response=ProviderTest),
)  # fmt: skip
