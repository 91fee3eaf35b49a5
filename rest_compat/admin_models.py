"""What administrators decide about models, over REST."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from resolvers import catalog_models, provider_models
from resolvers.errors import InvalidInput
from resolvers.paging import FURTHEST_OFFSET
from resolvers.provider_models import Served, ServedFilter, Toggle
from rest_compat import admin_shapes, shapes
from rest_compat.admin_shapes import AdminCatalogList, CatalogPatch, ProviderModelList, ProviderModelPatch
from rest_compat.endpoint import Ask, Reply

MOST = 1_000
T = TypeVar("T")


class ServedQuery(msgspec.Struct, frozen=True):
    """Those that match all that is given; all of them without a `limit` (1 … 1000). `provider` is a name, a kind or an id;
    `enabled` and `active` are the same."""

    provider: str | None = None
    provider_id: str | None = None
    model_key: str | None = None
    enabled: bool | None = None
    active: bool | None = None
    capability: str = ""
    supports_images: bool | None = None
    supports_tools: bool | None = None
    supports_reasoning: bool | None = None
    supports_embeddings: bool | None = None
    search: str | None = None
    limit: int | None = None
    offset: int = 0

    def wanted(self) -> ServedFilter:
        able = [name.strip() for name in self.capability.split(",") if name.strip()]
        supported = (
            (self.supports_images, "vision"),
            (self.supports_tools, "tools"),
            (self.supports_reasoning, "reasoning"),
            (self.supports_embeddings, "embeddings"),
        )
        able += [name for is_wanted, name in supported if is_wanted]
        return ServedFilter(
            provider=self.provider if self.provider is not None else self.provider_id,
            name=self.model_key,
            is_enabled=self.enabled if self.enabled is not None else self.active,
            capabilities=able,
            search=self.search,
        )

    def part(self, found: Sequence[T]) -> list[T]:
        """Raises InvalidInput."""
        if self.limit is not None and not 1 <= self.limit <= MOST:
            raise InvalidInput(f"limit must be between 1 and {MOST}", field="limit")
        if not 0 <= self.offset <= FURTHEST_OFFSET:
            raise InvalidInput(f"offset must be between 0 and {FURTHEST_OFFSET}", field="offset")
        return list(found[self.offset : None if self.limit is None else self.offset + self.limit])


class BulkToggle(msgspec.Struct, frozen=True):
    """`model_ids` (or `catalog_ids`) with `enabled`, or, as other clients have it, `enable` for all, of one provider or of any,
    but for `except_models`."""

    enabled: bool | None = None
    enable: bool | None = None
    model_ids: list[str] | None = None
    catalog_ids: list[str] | None = None
    provider_id: str | None = None
    except_models: list[str] | None = None
    reason: str | None = None

    def asked(self, names: list[str] | None) -> Toggle:
        """Raises InvalidInput."""
        is_enabled = self.enabled if self.enabled is not None else self.enable
        if is_enabled is None:
            raise InvalidInput("enabled must be true or false", field="enabled")
        if self.enabled is not None and names is None:
            # To switch everything off takes the other form, so that nothing is by a slip.
            raise InvalidInput("Name the models", field="model_ids")
        if self.enabled is None:
            # In this form an empty list is as good as none.
            names = names or None
        return Toggle(is_enabled, names, self.provider_id, self.except_models or (), self.reason)


async def list_served(ask: Ask, asked: ServedQuery) -> Reply:
    found = await provider_models.listing(ask.call, asked.wanted())
    data = [admin_shapes.provider_model(one) for one in asked.part(found)]
    has_more = asked.offset + len(data) < len(found)
    return Reply(
        msgspec.json.encode(ProviderModelList(data=data, total=len(found), limit=asked.limit, has_more=has_more))
    )


async def get_served(ask: Ask) -> Reply:
    return _first(await provider_models.get(ask.call, ask.path["id"]))


async def update_served(ask: Ask, patch: ProviderModelPatch) -> Reply:
    able = (await provider_models.get(ask.call, ask.path["id"]))[0].info.capabilities
    return _first(await provider_models.update(ask.call, ask.path["id"], patch.values(sorted(able))))


async def toggle_served(ask: Ask, asked: BulkToggle) -> Reply:
    found = await provider_models.toggle(ask.call, asked.asked(asked.model_ids))
    return Reply(shapes.merged(admin_shapes.bulk(found)))


async def list_named(ask: Ask, asked: ServedQuery) -> Reply:
    found = await catalog_models.listing(ask.call, asked.wanted())
    data = [admin_shapes.catalog(one) for one in asked.part(found)]
    has_more = asked.offset + len(data) < len(found)
    return Reply(
        msgspec.json.encode(AdminCatalogList(data=data, total=len(found), limit=asked.limit, has_more=has_more))
    )


async def get_named(ask: Ask) -> Reply:
    return Reply(shapes.merged(admin_shapes.catalog(await catalog_models.get(ask.call, ask.path["id"]))))


async def update_named(ask: Ask, patch: CatalogPatch) -> Reply:
    able = (await catalog_models.get(ask.call, ask.path["id"])).model.capabilities
    found = await catalog_models.update(ask.call, ask.path["id"], patch.values(able))
    return Reply(shapes.merged(admin_shapes.catalog(found)))


async def toggle_named(ask: Ask, asked: BulkToggle) -> Reply:
    names = asked.catalog_ids if asked.catalog_ids is not None else asked.model_ids
    return Reply(shapes.merged(admin_shapes.bulk(await catalog_models.toggle(ask.call, asked.asked(names)))))


def _first(found: Sequence[Served]) -> Reply:
    return Reply(shapes.merged(admin_shapes.provider_model(found[0])))
