"""The routes of models, of who serves them, and of those who decide about both."""

from __future__ import annotations

from resolvers.access import PUBLIC, READ, WRITE
from rest_compat import lifecycle, models
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
    operation("GET", "/v1/schema", PUBLIC, models.schema, request=SchemaQuery, response=SchemaObject),
)  # fmt: skip
