"""The models that callers may name, who serves them, and how they may be asked."""

from __future__ import annotations

from typing import Literal

import msgspec

from resolvers import catalog, parameters
from resolvers.catalog import Model, ModelFilter
from resolvers.paging import LARGEST_SIZE, Page, Window
from rest_compat import model_shapes, shapes
from rest_compat.endpoint import Ask, Reply
from rest_compat.generate import GenerateParameters
from rest_compat.model_shapes import CatalogList, KnownProvider, KnownProviders, ModelList

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


class ModelQuery(msgspec.Struct, frozen=True):
    """Without a `limit` (1 … 100) all are listed. `cursor` is the `next_cursor` of the page before. `capability`: one or
    several, separated by commas. Other modalities than text are served by nothing here."""

    limit: int | None = None
    cursor: str | None = None
    modality: Literal["text", "image", "3d"] | None = None
    capability: str = ""
    provider: str | None = None
    search: str | None = None

    def wanted(self) -> ModelFilter:
        return ModelFilter(_capabilities(self.capability), self.provider, self.search)


class CatalogQuery(msgspec.Struct, frozen=True):
    """`capability`: chat, vision, tools, reasoning, embeddings, audio, browser; several, separated by commas, are all asked
    for. `provider` is its name or its kind."""

    capability: str = ""
    provider: str | None = None
    search: str | None = None
    available: bool | None = None


class SchemaQuery(msgspec.Struct, frozen=True):
    """Without a `model`, what holds for any."""

    model: str | None = None


class SchemaObject(msgspec.Struct, frozen=True, kw_only=True, rename={"dialect": "$schema"}):
    """A JSON Schema, by which requests for this model are checked too. Parameters that are not in it go to whoever serves
    the model as they are; null counts as nothing."""

    dialect: str = _DIALECT
    title: str
    model_id: str | None
    version: str = "latest"
    type: Literal["object"] = "object"
    properties: dict[str, object]
    additionalProperties: bool = True  # noqa: N815 - the name that JSON Schema gives it


async def list_all(ask: Ask, asked: ModelQuery) -> Reply:
    page = _page(ask, asked)
    wants_providers = any(name == b"x-provider-data" and value == b"true" for name, value in ask.headers)
    data = [
        model_shapes.model(one, place, _provider(ask, one) if wants_providers else None)
        for place, one in enumerate(page.nodes)
    ]
    found = ModelList(
        data=data,
        models=[model_shapes.info(one) for one in page.nodes],
        first_id=data[0].id if data else "",
        last_id=data[-1].id if data else "",
        has_more=page.has_next,
        next_cursor=page.cursors[-1] if page.has_next else None,
        total=len(data) if asked.limit is None else len(catalog.models(ask.call, asked.wanted())),
    )
    return Reply(msgspec.json.encode(found))


async def get(ask: Ask) -> Reply:
    return Reply(msgspec.json.encode(model_shapes.details(catalog.named(ask.call, ask.path["id"]))))


async def list_catalogs(ask: Ask, asked: CatalogQuery) -> Reply:
    wanted = ModelFilter(_capabilities(asked.capability), asked.provider, asked.search, is_available=asked.available)
    found = [model_shapes.catalog(one) for one in catalog.models(ask.call, wanted)]
    return Reply(msgspec.json.encode(CatalogList(data=found, total=len(found))))


async def get_catalog(ask: Ask) -> Reply:
    return Reply(shapes.merged(model_shapes.catalog(catalog.named(ask.call, ask.path["id"]))))


async def list_serving(ask: Ask) -> Reply:
    found = [model_shapes.serving(one) for one in catalog.providers(ask.call) if one.is_configured]
    return Reply(msgspec.json.encode(found))


async def list_providers(ask: Ask) -> Reply:
    found = [
        KnownProvider(name=one.name, configured=one.is_configured, available=one.is_available)
        for one in catalog.providers(ask.call)
    ]
    return Reply(msgspec.json.encode(KnownProviders(providers=found, data=found)))


async def schema(ask: Ask, asked: SchemaQuery) -> Reply:
    found = catalog.named(ask.call, asked.model) if asked.model is not None else None
    limits = found.bounds if found is not None else parameters.UNBOUND
    properties = parameters.schema(limits, GenerateParameters)["properties"]
    assert isinstance(properties, dict)
    title = f"Parameters of {found.display_name}" if found is not None else "Parameters of any model"
    id = found.name if found is not None else None
    return Reply(msgspec.json.encode(SchemaObject(title=title, model_id=id, properties=properties)))


def _page(ask: Ask, asked: ModelQuery) -> Page[Model]:
    if asked.modality not in (None, "text"):
        return Page([], [], has_next=False, has_previous=False)
    if asked.limit is None and asked.cursor is None:
        found = catalog.models(ask.call, asked.wanted())
        return Page(found, [], has_next=False, has_previous=False)
    size = asked.limit if asked.limit is not None else LARGEST_SIZE
    return catalog.page(ask.call, Window.make(size, asked.cursor, None, None), asked.wanted())


def _provider(ask: Ask, found: Model) -> tuple[str, str]:
    terms = ask.call.services.registry.known.get(found.provider)
    return (terms.id if terms is not None else "", found.vendor)


def _capabilities(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
