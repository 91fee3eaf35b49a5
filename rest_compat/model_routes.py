"""The routes of models, of who serves them, and of those who decide about both."""

from __future__ import annotations

from resolvers.access import ADMIN, PUBLIC, READ, WRITE
from rest_compat import admin_models, lifecycle, models
from rest_compat.admin_models import BulkToggle, ServedQuery
from rest_compat.admin_shapes import (
    AdminCatalogList,
    AdminCatalogObject,
    BulkObject,
    CatalogPatch,
    ProviderModelList,
    ProviderModelObject,
    ProviderModelPatch,
)
from rest_compat.endpoint import bare, operation
from rest_compat.lifecycle import LifecycleAnswer, LoadedModels, LoadRequest, ModelStatus, UnloadRequest
from rest_compat.model_shapes import (
    CatalogList,
    CatalogObject,
    KnownProviders,
    ModelDetails,
    ModelList,
    ServingProvider,
)
from rest_compat.models import CatalogQuery, ModelQuery, SchemaObject, SchemaQuery

# Ids hold slashes, so fixed paths come first, then those with a word behind the id.
OPERATIONS = (
    operation("GET", "/v1/models", PUBLIC, models.list_all, request=ModelQuery, response=ModelList),
    operation("GET", "/v1/models/catalogs", PUBLIC, models.list_catalogs, request=CatalogQuery, response=CatalogList),
    bare("GET", "/v1/models/catalogs/{id:path}", PUBLIC, models.get_catalog, response=CatalogObject),
    bare("GET", "/v1/models/providers", READ, models.list_serving, response=list[ServingProvider]),
    bare("GET", "/v1/models/loaded", READ, lifecycle.list_loaded, response=LoadedModels),
    bare("GET", "/v1/models/{id:path}/status", READ, lifecycle.status, response=ModelStatus),
    operation(
        "POST", "/v1/models/{id:path}/load", WRITE, lifecycle.load,
        request=LoadRequest, response=LifecycleAnswer, is_watched=True,
    ),
    operation(
        "POST", "/v1/models/{id:path}/unload", WRITE, lifecycle.unload,
        request=UnloadRequest, response=LifecycleAnswer,
    ),
    bare("GET", "/v1/models/{id:path}", PUBLIC, models.get, response=ModelDetails),
    bare("GET", "/v1/providers", READ, models.list_providers, response=KnownProviders),
    operation(
        "GET", "/v1/admin/models/provider-models", ADMIN, admin_models.list_served,
        request=ServedQuery, response=ProviderModelList,
    ),
    operation(
        "POST", "/v1/admin/models/provider-models/bulk-toggle", ADMIN, admin_models.toggle_served,
        request=BulkToggle, response=BulkObject,
    ),
    bare(
        "GET", "/v1/admin/models/provider-models/{id:path}", ADMIN, admin_models.get_served,
        response=ProviderModelObject,
    ),
    operation(
        "PATCH", "/v1/admin/models/provider-models/{id:path}", ADMIN, admin_models.update_served,
        request=ProviderModelPatch, response=ProviderModelObject,
    ),
    operation(
        "GET", "/v1/admin/models/catalogs", ADMIN, admin_models.list_named,
        request=ServedQuery, response=AdminCatalogList,
    ),
    operation(
        "POST", "/v1/admin/models/catalogs/bulk-toggle", ADMIN, admin_models.toggle_named,
        request=BulkToggle, response=BulkObject,
    ),
    bare("GET", "/v1/admin/models/catalogs/{id:path}", ADMIN, admin_models.get_named, response=AdminCatalogObject),
    operation(
        "PATCH", "/v1/admin/models/catalogs/{id:path}", ADMIN, admin_models.update_named,
        request=CatalogPatch, response=AdminCatalogObject,
    ),
    operation("GET", "/v1/schema", PUBLIC, models.schema, request=SchemaQuery, response=SchemaObject),
)  # fmt: skip
