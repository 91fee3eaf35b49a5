"""What administrators see and decide about models, as fields of the roots."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Annotated, TypeAlias

import strawberry

from graph.relay import After, Connection, First, Info, Input, connection, given, resolved
from graph.types.catalog import ModelCapability
from graph.types.payload import mendable
from graph.types.served import (
    CatalogModel,
    ProviderModel,
    ProviderModelFilter,
    SetCatalogModelsEnabledInput,
    SetCatalogModelsEnabledPayload,
    SetModelsEnabledInput,
    SetModelsEnabledPayload,
    UpdateCatalogModelInput,
    UpdateCatalogModelPayload,
    UpdateProviderModelInput,
    UpdateProviderModelPayload,
    failures,
)
from resolvers import catalog_models, provider_models
from resolvers.paging import Window
from resolvers.provider_models import Toggle

Wanted: TypeAlias = Annotated[ProviderModelFilter | None, strawberry.argument(description="Which of them.")]
# What null would mean nothing for is as good as left out.
_NEVER_NULL = ("is_enabled", "tags", "fallbacks")


@strawberry.type
class ModelAdministration:
    @resolved("What providers serve, and on what terms, in the order of the names.")
    async def provider_models(
        self,
        info: Info,
        first: First = strawberry.UNSET,
        after: After = strawberry.UNSET,
        filter: Wanted = strawberry.UNSET,
    ) -> Connection[ProviderModel]:
        window = Window.make(given(first), given(after), None, None)
        wanted = (given(filter) or ProviderModelFilter()).wanted()
        return connection(await provider_models.page(info.context.call, window, wanted), ProviderModel.from_served)

    @resolved("The public names with who serves them and what they were used for, in their own order.")
    async def catalog_models(
        self,
        info: Info,
        first: First = strawberry.UNSET,
        after: After = strawberry.UNSET,
        filter: Wanted = strawberry.UNSET,
    ) -> Connection[CatalogModel]:
        window = Window.make(given(first), given(after), None, None)
        wanted = (given(filter) or ProviderModelFilter()).wanted()
        return connection(await catalog_models.page(info.context.call, window, wanted), CatalogModel.from_named)


@strawberry.type
class ModelMutations:
    @resolved("Changes on what terms a provider's model is asked. For administrators.")
    @mendable(UpdateProviderModelPayload)
    async def update_provider_model(
        self, info: Info, input: Input[UpdateProviderModelInput]
    ) -> UpdateProviderModelPayload:
        found = await provider_models.update(info.context.call, input.id, _values(input, "id"))
        return UpdateProviderModelPayload(provider_models=_served(found))

    @resolved("Switches providers' models on or off. For administrators.")
    @mendable(SetModelsEnabledPayload)
    async def set_models_enabled(self, info: Info, input: Input[SetModelsEnabledInput]) -> SetModelsEnabledPayload:
        found = await provider_models.toggle(info.context.call, input.asked())
        return SetModelsEnabledPayload(models=_served(found.models), failed=failures(found.failed))

    @resolved("Changes a public name, whoever serves it. For administrators.")
    @mendable(UpdateCatalogModelPayload)
    async def update_catalog_model(
        self, info: Info, input: Input[UpdateCatalogModelInput]
    ) -> UpdateCatalogModelPayload:
        found = await catalog_models.update(info.context.call, input.name, _values(input, "name"))
        return UpdateCatalogModelPayload(catalog_model=CatalogModel.from_named(found))

    @resolved("Switches public names on or off, whoever serves them. For administrators.")
    @mendable(SetCatalogModelsEnabledPayload)
    async def set_catalog_models_enabled(
        self, info: Info, input: Input[SetCatalogModelsEnabledInput]
    ) -> SetCatalogModelsEnabledPayload:
        asked = Toggle(input.is_enabled, input.names, reason=given(input.reason))
        found = await catalog_models.toggle(info.context.call, asked)
        models = [CatalogModel.from_named(one) for one in found.models]
        return SetCatalogModelsEnabledPayload(models=models, failed=failures(found.failed))


def _served(found: Sequence[provider_models.Served]) -> list[ProviderModel]:
    return [ProviderModel.from_served(one) for one in found]


def _values(input: UpdateProviderModelInput | UpdateCatalogModelInput, key: str) -> Mapping[str, object]:
    """All that an input gives but for what it names the thing by."""
    found = {field.name: getattr(input, field.name) for field in fields(input) if field.name != key}
    kept = {
        name: value
        for name, value in found.items()
        if value is not strawberry.UNSET and not (value is None and name in _NEVER_NULL)
    }
    return {name: _plain(value) for name, value in kept.items()}


def _plain(value: object) -> object:
    if isinstance(value, list):
        return [one.value if isinstance(one, ModelCapability) else one for one in value]
    return value
