"""Edits, branches and comparisons, as fields of the roots."""

from typing import Annotated

import strawberry

from db import models
from graph.relay import Edge, Id, Info, Input, connection, given, resolved, shaped
from graph.types.branch import Branch
from graph.types.content import new_message
from graph.types.conversation import Conversation, Item, Message, item
from graph.types.edit import (
    BranchDiff,
    BranchInput,
    BranchPayload,
    ComparedReply,
    CompareModelsInput,
    CompareModelsPayload,
    CreateBranchInput,
    DeleteMessageInput,
    EditMessageInput,
    ForkPayload,
    KeepMessageInput,
    KeepMessagePayload,
    MessagePayload,
    RateMessageInput,
    RegenerateMessageInput,
    RewriteMessageInput,
)
from graph.types.generation import Generation
from graph.types.options import GenerateOptions
from graph.types.payload import mendable
from resolvers import branches, compare, edits, items
from resolvers.edits import Forked
from resolvers.errors import NotFound


@strawberry.type
class BranchFields:
    @resolved("Where two branches of a conversation part; null when one of them is missing.")
    async def branch_diff(
        self,
        info: Info,
        conversation_id: Annotated[strawberry.ID, strawberry.argument(description="ID of the conversation.")],
        a: Annotated[str, strawberry.argument(description="Name of a branch.")],
        b: Annotated[str, strawberry.argument(description="Name of another.")],
    ) -> BranchDiff | None:
        try:
            found = await branches.diff(info.context.call, conversation_id, a, b)
        except NotFound:
            return None
        return BranchDiff(
            common_count=found.common,
            a=connection(found.a, item),
            b=connection(found.b, item),
        )


@strawberry.type
class EditMutations:
    @resolved("Puts another message in the place of one, on a new line; what was there is kept on a branch.")
    @mendable(ForkPayload)
    async def edit_message(self, info: Info, input: Input[EditMessageInput]) -> ForkPayload:
        wanted, new = given(input.generate), new_message(input.content)
        options = wanted.options() if wanted is not None else None
        found = await edits.edit(input.call(info), input.message_id, new.parts, options, is_plain=new.is_plain)
        return _forked(info, found)

    @resolved("Changes a message where it stands, whoever wrote it.")
    @mendable(MessagePayload)
    async def rewrite_message(self, info: Info, input: Input[RewriteMessageInput]) -> MessagePayload:
        new = new_message(input.content)
        found = await items.rewrite(
            info.context.call,
            input.message_id,
            new.parts,
            is_plain=new.is_plain,
            expected_version=given(input.expected_version),
        )
        info.context.loaders.forget()
        return MessagePayload(message=Message.from_row(found.item))

    @resolved("Writes another reply on a new line; the one before is kept on a branch.")
    @mendable(ForkPayload)
    async def regenerate_message(self, info: Info, input: Input[RegenerateMessageInput]) -> ForkPayload:
        options = (given(input.options) or GenerateOptions()).options()
        return _forked(info, await edits.regenerate(input.call(info), input.message_id, options))

    @resolved("Takes a message and all that follows off the line; what was there is kept on a branch.")
    @mendable(ForkPayload)
    async def delete_message(self, info: Info, input: Input[DeleteMessageInput]) -> ForkPayload:
        return _forked(info, await edits.delete(info.context.call, input.message_id))

    @resolved("Says what the viewer thinks of a message.")
    @mendable(MessagePayload)
    async def rate_message(self, info: Info, input: Input[RateMessageInput]) -> MessagePayload:
        rating = given(input.rating)
        value = str(rating.value) if rating is not None else None
        found = await items.rate(info.context.call, input.message_id, value, given(input.comment))
        info.context.loaders.forget()
        return MessagePayload(message=Message.from_row(found.item))

    @resolved("Makes a branch that shares what the active one has, up to an item; it is not active.")
    @mendable(BranchPayload)
    async def create_branch(self, info: Info, input: Input[CreateBranchInput]) -> BranchPayload:
        made = await branches.create(
            input.call(info), input.conversation_id, input.name, from_item=given(input.from_item)
        )
        return await _branched(info, input.conversation_id, made.branch.name)

    @resolved("Makes a branch the one that is shown and written to.")
    @mendable(BranchPayload)
    async def activate_branch(self, info: Info, input: Input[BranchInput]) -> BranchPayload:
        found = await branches.activate(info.context.call, input.conversation_id, input.name)
        return await _branched(info, input.conversation_id, found.active_branch)

    @resolved("Deletes a branch with what no other one stands on; neither MAIN nor the active one.")
    @mendable(BranchPayload)
    async def delete_branch(self, info: Info, input: Input[BranchInput]) -> BranchPayload:
        found = await branches.delete(info.context.call, input.conversation_id, input.name)
        info.context.loaders.forget()
        return BranchPayload(conversation=Conversation.from_row(found))

    @resolved("Sends a message to several models at once. Their replies are siblings, each on a branch of its own.")
    @mendable(CompareModelsPayload)
    async def compare_models(self, info: Info, input: Input[CompareModelsInput]) -> CompareModelsPayload:
        options = (given(input.options) or GenerateOptions()).options()
        found = await compare.start(
            input.call(info), input.conversation_id, new_message(input.content), input.models, options
        )
        info.context.loaders.forget()
        return CompareModelsPayload(
            message_edge=_edge(info, found.item),
            replies=[
                ComparedReply(edge=_edge(info, one.item), generation=Generation.from_row(one.generation))
                for one in found.replies
            ],
            conversation=Conversation.from_row(found.conversation),
        )

    @resolved("Goes on with one of several replies: makes its line the active one.")
    @mendable(KeepMessagePayload)
    async def keep_message(self, info: Info, input: Input[KeepMessageInput]) -> KeepMessagePayload:
        found = await branches.keep(info.context.call, input.message_id)
        info.context.loaders.forget()
        return KeepMessagePayload(conversation=Conversation.from_row(found))


def _edge(info: Info, row: models.Item) -> Edge[Item]:
    return Edge[Item](cursor=items.cursor(info.context.call, row), node=item(row))


def _forked(info: Info, found: Forked) -> ForkPayload:
    info.context.loaders.forget()
    return ForkPayload(
        conversation=Conversation.from_row(found.conversation),
        backup_branch=found.backup,
        message_edge=_edge(info, found.asked) if found.asked is not None else None,
        reply_edge=_edge(info, found.reply) if found.reply is not None else None,
        generation=shaped(Generation.from_row, found.generation),
    )


async def _branched(info: Info, conversation_id: Id, name: str) -> BranchPayload:
    info.context.loaders.forget()
    row = await info.context.loaders.conversations.load(conversation_id)
    found = await branches.get(info.context.call, conversation_id, name)
    return BranchPayload(conversation=shaped(Conversation.from_row, row), branch=Branch.from_lineage(found))
