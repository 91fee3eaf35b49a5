"""Which models stand in memory, as fields of the roots."""

import contextlib
from collections.abc import AsyncGenerator
from typing import Annotated

import strawberry

from graph.fanout import Told, streamed
from graph.relay import Info, Input, given, resolved
from graph.types.lifecycle import (
    LoadModelInput,
    LoadModelPayload,
    ModelStatus,
    ModelStatusEvent,
    PinModelInput,
    PinModelPayload,
    UnloadModelInput,
    UnloadModelPayload,
)
from graph.types.payload import mendable
from resolvers import lifecycle


@strawberry.type
class LifecycleFields:
    @resolved("The models in the memory of this server or of a server of models beside it, the one loaded first first.")
    async def loaded_models(self, info: Info) -> list[ModelStatus]:
        return [ModelStatus.from_status(one) for one in await lifecycle.loaded(info.context.call)]


@strawberry.type
class LifecycleMutations:
    @resolved("Brings a model into memory; it goes on when the caller has gone.")
    @mendable(LoadModelPayload)
    async def load_model(self, info: Info, input: Input[LoadModelInput]) -> LoadModelPayload:
        found = await lifecycle.load(
            info.context.call,
            input.name,
            is_awaited=input.wait,
            may_fall_back=input.use_fallback,
            fallback=given(input.fallback_name),
        )
        return LoadModelPayload(
            status=ModelStatus.from_status(found.status), was_loaded=found.was_there, is_fallback=found.is_fallback
        )

    @resolved("Frees the memory of a model. One that is busy or pinned is refused.")
    @mendable(UnloadModelPayload)
    async def unload_model(self, info: Info, input: Input[UnloadModelInput]) -> UnloadModelPayload:
        found = await lifecycle.unload(info.context.call, input.name, is_forced=input.force)
        return UnloadModelPayload(status=ModelStatus.from_status(found.status), was_loaded=found.was_loaded)

    @resolved("Keeps a model in memory once it is there, in all processes, or lets it go again. For administrators.")
    @mendable(PinModelPayload)
    async def pin_model(self, info: Info, input: Input[PinModelInput]) -> PinModelPayload:
        found = await lifecycle.pin(info.context.call, input.name, is_pinned=input.is_pinned)
        return PinModelPayload(status=ModelStatus.from_status(found))


@strawberry.type
class LifecycleStreams:
    @streamed(
        "How models stand: first each as it is now, then each that changes. What changes twice before it can be told is told "
        "once. Without an end.",
        ModelStatusEvent,
    )
    async def model_status(
        self,
        info: Info,
        names: Annotated[
            list[str] | None,
            strawberry.argument(
                description="Only these models, at most 100; by default all that are held in memory, or could be."
            ),
        ] = strawberry.UNSET,
    ) -> AsyncGenerator[Told]:
        call = info.context.call
        worker = strawberry.ID(lifecycle.worker_id(call))
        async with contextlib.aclosing(await lifecycle.follow(call, given(names))) as looks:
            async for look in looks:
                yield Told(ModelStatusEvent(status=ModelStatus.from_status(one), worker_id=worker) for one in look)
