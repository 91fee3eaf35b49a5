"""The models that callers may name."""

from __future__ import annotations

from resolvers import catalog
from rest_compat import shapes
from rest_compat.endpoint import Ask, Reply


async def list_all(ask: Ask) -> Reply:
    found = [shapes.model(one) for one in catalog.models(ask.call)]
    return Reply(shapes.listed(found, has_more=False, total=len(found), is_named_models=True))


async def get(ask: Ask) -> Reply:
    return Reply(shapes.merged(shapes.model(catalog.named(ask.call, ask.path["id"]))))
