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
)
