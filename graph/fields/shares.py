"""Shares: for their owners, and for whoever has the link."""

import contextlib
import functools
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Annotated

import strawberry

from graph.fanout import Told, streamed
from graph.relay import After, Connection, First, Info, Input, connection, given, resolved
from graph.types.conversation import Conversation
from graph.types.event import Audience, GenerationEvent, told
from graph.types.generation import Generation
from graph.types.payload import mendable
from graph.types.share import (
    ForkShareInput,
    ForkSharePayload,
    RateShareInput,
    RateSharePayload,
    RevokeShareInput,
    Share,
    ShareConversationInput,
    SharePayload,
    ShareRating,
    UpdateShareInput,
)
from graph.types.shared import SharedConversation
from resolvers import forks, shares, viewing
from resolvers.call import Call
from resolvers.errors import NotFound
from resolvers.paging import Window

Slug = Annotated[str, strawberry.argument(description="Secret of the link.")]


@strawberry.type
class ShareFields:
    @resolved("The viewer's links to conversations, the newest first, revoked ones too.")
    async def shares(
        self, info: Info, first: First = strawberry.UNSET, after: After = strawberry.UNSET
    ) -> Connection[Share]:
        window = Window.make(given(first), given(after), None, None)
        return connection(await shares.page(info.context.call, window), Share.from_row)

    @resolved("What a link shows, for anybody who has it; null when it leads nowhere, for whatever reason.")
    async def shared_conversation(self, info: Info, slug: Slug) -> SharedConversation | None:
        try:
            return SharedConversation.from_opened(await shares.open_for(info.context.call, slug))
        except NotFound:
            return None


@strawberry.type
class ShareMutations:
    @resolved("Makes a link to a conversation, or to one answer in it.")
    @mendable(SharePayload)
    async def share_conversation(self, info: Info, input: Input[ShareConversationInput]) -> SharePayload:
        row = await shares.create(input.call(info), input.conversation_id, input.share())
        info.context.loaders.forget()
        return SharePayload(share=Share.from_row(row))

    @resolved("Gives a link another title.")
    @mendable(SharePayload)
    async def update_share(self, info: Info, input: Input[UpdateShareInput]) -> SharePayload:
        row = await shares.retitle(info.context.call, input.id, input.title)
        info.context.loaders.forget()
        return SharePayload(share=Share.from_row(row))

    @resolved("Takes a link back, for good: whoever watches is cut off within seconds.")
    @mendable(SharePayload)
    async def revoke_share(self, info: Info, input: Input[RevokeShareInput]) -> SharePayload:
        row = await shares.revoke(info.context.call, input.id)
        info.context.loaders.forget()
        return SharePayload(share=Share.from_row(row))

    @resolved("Copies what a link shows into a conversation of the viewer's own.")
    @mendable(ForkSharePayload)
    async def fork_share(self, info: Info, input: Input[ForkShareInput]) -> ForkSharePayload:
        row = await forks.create(input.call(info), input.slug)
        return ForkSharePayload(conversation=Conversation.from_row(row))

    @resolved("Tells the owner of a share what somebody thinks of it, not who.")
    @mendable(RateSharePayload)
    async def rate_share(self, info: Info, input: Input[RateShareInput]) -> RateSharePayload:
        await shares.rate(info.context.call, input.slug, is_liked=input.rating is ShareRating.LIKE)
        return RateSharePayload()


@strawberry.type
class ShareStreams:
    @streamed(
        "The events of a run that writes into what a link shows, for anybody who has the link; ends after the last one, at once "
        "when none is at work, and when the link does.",
        GenerationEvent,
        position="seq",
    )
    async def shared_generation(
        self,
        info: Info,
        slug: Slug,
        id: Annotated[
            strawberry.ID | None, strawberry.argument(description="ID of the run; the one at work by default.")
        ] = strawberry.UNSET,
        after: Annotated[
            int | None, strawberry.argument(description="Only events with a greater number than this one.")
        ] = 0,
    ) -> AsyncGenerator[Told]:
        call = info.context.call
        run = await viewing.follow(call, slug, given(id), info.context.resumed(after))
        if run is None:
            return
        name, ended = strawberry.ID(run.id), functools.partial(_ended, call, run)
        async with contextlib.aclosing(run.events) as batches:
            async for batch in batches:
                yield await told(name, batch, Audience.VIEWER, ended)


async def _ended(call: Call, run: viewing.Run) -> Generation:
    ended = Generation.from_row(await viewing.result(call, run))
    # What it cost and where it stands is nobody's business but the owner's.
    return replace(ended, conversation_id=None, usage=None, cost=None)
