"""The routes of models, of who serves them, and of those who decide about both."""

from __future__ import annotations

from resolvers.access import PUBLIC
from rest_compat import models
from rest_compat.endpoint import bare
from rest_compat.shapes import List, ModelObject

# Ids hold slashes, so fixed paths come first, then those with a word behind the id.
OPERATIONS = (
    bare("GET", "/v1/models", PUBLIC, models.list_all, response=List),
    bare("GET", "/v1/models/{id:path}", PUBLIC, models.get, response=ModelObject),
)  # fmt: skip
