"""Leave to run calls of tools, as fields of the roots."""

import contextlib
from collections.abc import AsyncGenerator
from typing import Annotated

import strawberry

from db import models
from graph.fanout import Told, streamed
from graph.relay import After, First, Info, Input, edges, given, page_info, resolved
from graph.types.approval import (
    Approval,
    ApprovalConnection,
    ApprovalStatus,
    DecideApprovalInput,
    DecideApprovalPayload,
)
from graph.types.payload import mendable
from resolvers import approvals
from resolvers.approvals import Ruling
from resolvers.paging import Window


@strawberry.type
class ApprovalFields:
    @resolved("Requests for leave to run calls of tools in the viewer's runs, the newest first.")
    async def approvals(
        self,
        info: Info,
        first: First = strawberry.UNSET,
        after: After = strawberry.UNSET,
        status: Annotated[
            ApprovalStatus | None, strawberry.argument(description="Only those of this status.")
        ] = strawberry.UNSET,
    ) -> ApprovalConnection:
        window, wanted = Window.make(given(first), given(after), None, None), given(status)
        state = models.ApprovalStatus[wanted.name] if wanted is not None else None
        page = await approvals.page(info.context.call, window, state)
        return ApprovalConnection(edges=edges(page, Approval.from_row), page_info=page_info(page))


@strawberry.type
class ApprovalMutations:
    @resolved(
        "Decides whether a call may run. Once nothing else is waited for, the run goes on. Deciding the same again changes "
        "nothing; deciding otherwise, or too late, is a conflict."
    )
    @mendable(DecideApprovalPayload)
    async def decide_approval(self, info: Info, input: Input[DecideApprovalInput]) -> DecideApprovalPayload:
        ruling = Ruling(
            approvals.Decision[input.decision.name],
            given(input.arguments),
            given(input.reason) or "",
            bool(given(input.remember)),
        )
        found = await approvals.decide(info.context.call, input.id, ruling)
        info.context.loaders.forget()
        return DecideApprovalPayload(approval=Approval.from_row(found))


@strawberry.type
class ApprovalStreams:
    @streamed(
        "What the viewer is asked to allow: first all that is pending, then whatever is asked for anew or has been decided, on "
        "whatever device.",
        Approval,
    )
    async def approvals(self, info: Info) -> AsyncGenerator[Told]:
        async with contextlib.aclosing(await approvals.follow(info.context.call)) as batches:
            async for batch in batches:
                yield Told(Approval.from_row(row) for row in batch)
