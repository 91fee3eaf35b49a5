"""Where operations take names of models, of who serves them, and ids of both: they are everybody's, or administrators'."""

from __future__ import annotations

NAMES = (
    ("Query.models", "after"),
    ("Query.models", "filter.provider"),
    ("GET /v1/models", "cursor"),
    ("GET /v1/models", "provider"),
    ("GET /v1/models/catalogs", "provider"),
    ("GET /v1/models/catalogs/{id:path}", "{id:path}"),
    ("GET /v1/models/{id:path}", "{id:path}"),
    ("GET /v1/models/{id:path}/status", "{id:path}"),
    ("POST /v1/models/{id:path}/load", "{id:path}"),
    ("POST /v1/models/{id:path}/load", "fallback_model_id"),
    ("POST /v1/models/{id:path}/unload", "{id:path}"),
    ("Mutation.updateProviderModel", "input.id"),
    ("Mutation.setModelsEnabled", "input.models.ids"),
    ("Mutation.setModelsEnabled", "input.models.providerId"),
    ("Mutation.setModelsEnabled", "input.exceptIds"),
    ("GET /v1/admin/models/provider-models", "provider"),
    ("GET /v1/admin/models/provider-models", "provider_id"),
    ("POST /v1/admin/models/provider-models/bulk-toggle", "model_ids"),
    ("POST /v1/admin/models/provider-models/bulk-toggle", "catalog_ids"),
    ("POST /v1/admin/models/provider-models/bulk-toggle", "provider_id"),
    ("GET /v1/admin/models/provider-models/{id:path}", "{id:path}"),
    ("PATCH /v1/admin/models/provider-models/{id:path}", "{id:path}"),
    ("GET /v1/admin/models/catalogs", "provider"),
    ("GET /v1/admin/models/catalogs", "provider_id"),
    ("POST /v1/admin/models/catalogs/bulk-toggle", "model_ids"),
    ("POST /v1/admin/models/catalogs/bulk-toggle", "catalog_ids"),
    ("POST /v1/admin/models/catalogs/bulk-toggle", "provider_id"),
    ("GET /v1/admin/models/catalogs/{id:path}", "{id:path}"),
    ("PATCH /v1/admin/models/catalogs/{id:path}", "{id:path}"),
)
CURSORS = frozenset({"AdminQuery.providerModels.after", "AdminQuery.catalogModels.after"})
