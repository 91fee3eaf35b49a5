"""What runs now, as fields of the roots. For administrators."""

import contextlib
from collections.abc import AsyncGenerator

import strawberry

from graph.fanout import Told, streamed
from graph.relay import Info, Input, resolved
from graph.types.activity import ActiveGeneration, StopGenerationInput, StopGenerationPayload
from graph.types.generation import GenerationStatus
from graph.types.payload import mendable
from resolvers import activity


@strawberry.type
class ActivityStreams:
    @streamed(
        "All runs that go on now, of all users and in all processes, the oldest first: the whole list at once, and again "
        "each second in which something has changed. For administrators.",
        list[ActiveGeneration],
    )
    async def active_generations(self, info: Info) -> AsyncGenerator[Told]:
        async with contextlib.aclosing(await activity.follow(info.context.call)) as looks:
            async for look in looks:
                yield Told([[ActiveGeneration.from_active(active) for active in look]])


@strawberry.type
class ActivityMutations:
    @resolved("Stops anybody's run; what was said is kept. For administrators, and audited.")
    @mendable(StopGenerationPayload)
    async def stop_generation(self, info: Info, input: Input[StopGenerationInput]) -> StopGenerationPayload:
        status = await activity.stop(info.context.call, input.id)
        return StopGenerationPayload(stopped_id=input.id, status=GenerationStatus(status.value))
