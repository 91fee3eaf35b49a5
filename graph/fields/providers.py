"""Providers as administrators keep them, as fields of the roots."""

import strawberry

from graph.relay import Info, Input, resolved
from graph.types.payload import mendable
from graph.types.provider import (
    AdminProvider,
    CreateProviderInput,
    ProviderInput,
    ProviderPayload,
    TestProviderPayload,
    UpdateProviderInput,
)
from resolvers import providers
from resolvers.providers import Detailed


@strawberry.type
class ProviderAdministration:
    @resolved("All providers: those of the operator's settings, and those that were added here.")
    async def providers(self, info: Info) -> list[AdminProvider]:
        return [AdminProvider.from_detailed(one) for one in await providers.listing(info.context.call)]


@strawberry.type
class ProviderMutations:
    @resolved("Adds a provider, and asks it for its models. For administrators.")
    @mendable(ProviderPayload)
    async def create_provider(self, info: Info, input: Input[CreateProviderInput]) -> ProviderPayload:
        return _payload(await providers.add(info.context.call, input.new()))

    @resolved("Changes a provider. For administrators.")
    @mendable(ProviderPayload)
    async def update_provider(self, info: Info, input: Input[UpdateProviderInput]) -> ProviderPayload:
        return _payload(await providers.update(info.context.call, input.id, input.change()))

    @resolved("Takes a provider away, with all that it serves. For administrators.")
    @mendable(ProviderPayload)
    async def delete_provider(self, info: Info, input: Input[ProviderInput]) -> ProviderPayload:
        return _payload(await providers.delete(info.context.call, input.id))

    @resolved("Asks a provider for its models at once. For administrators.")
    @mendable(ProviderPayload)
    async def refresh_provider(self, info: Info, input: Input[ProviderInput]) -> ProviderPayload:
        return _payload(await providers.refresh(info.context.call, input.id))

    @resolved("Tells whether a provider answers. For administrators.")
    @mendable(TestProviderPayload)
    async def test_provider(self, info: Info, input: Input[ProviderInput]) -> TestProviderPayload:
        return TestProviderPayload.from_tested(await providers.test(info.context.call, input.id))


def _payload(found: Detailed) -> ProviderPayload:
    return ProviderPayload(provider=AdminProvider.from_detailed(found))
