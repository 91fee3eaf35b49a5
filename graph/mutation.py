"""Every write, in one list: each takes one input, asks one resolver and answers with a payload."""

from __future__ import annotations

from typing import Annotated, TypeAlias, TypeVar

import strawberry

from graph.relay import Edge, Info, given, resolved, shaped
from graph.types.account import AuthPayload
from graph.types.content import new_message
from graph.types.conversation import (
    Conversation,
    CreateConversationInput,
    CreateConversationPayload,
    Item,
    Message,
    SendMessageInput,
    SendMessagePayload,
)
from graph.types.generation import GeneratePayload, Generation
from graph.types.options import CancelGenerationInput, GenerateInput, GenerateOptions
from graph.types.payload import mendable
from resolvers import conversations, generations, identity, items

T = TypeVar("T")
Input: TypeAlias = Annotated[T, strawberry.argument(description="What to do.")]


@strawberry.type(description="All that can be changed. What the caller can mend is told in the payload's `errors`.")
class Mutation:
    @resolved("Signs in as a new guest.")
    @mendable(AuthPayload)
    async def guest_login(self, info: Info) -> AuthPayload:
        return AuthPayload.from_tokens(await identity.guest_login(info.context.call))

    @resolved("Makes a conversation.")
    @mendable(CreateConversationPayload)
    async def create_conversation(self, info: Info, input: Input[CreateConversationInput]) -> CreateConversationPayload:
        call = info.context.call
        row = await conversations.create(call, title=given(input.title), metadata=given(input.metadata))
        made = Conversation.from_row(row)
        cursor = conversations.cursor(call, row)
        return CreateConversationPayload(conversation=made, conversation_edge=Edge(cursor=cursor, node=made))

    @resolved("Adds a message to a conversation and, if asked to, starts a reply.")
    @mendable(SendMessagePayload)
    async def send_message(self, info: Info, input: Input[SendMessageInput]) -> SendMessagePayload:
        call = info.context.call
        wanted = given(input.generate)
        options = wanted.options() if wanted is not None else None
        sent = await generations.send_message(call, input.conversation_id, new_message(input.content), options)
        info.context.loaders.forget()
        edge = Edge[Item](cursor=items.cursor(call, sent.item), node=Message.from_row(sent.item))
        reply = None
        if sent.reply is not None:
            reply = Edge[Item](cursor=items.cursor(call, sent.reply), node=Message.from_row(sent.reply))
        return SendMessagePayload(
            message_edge=edge,
            reply_edge=reply,
            generation=shaped(Generation.from_row, sent.generation),
            conversation=Conversation.from_row(sent.conversation),
        )

    @resolved("Runs a model outside any conversation.")
    @mendable(GeneratePayload)
    async def generate(self, info: Info, input: Input[GenerateInput]) -> GeneratePayload:
        wanted = given(input.options) or GenerateOptions()
        row = await generations.generate(info.context.call, new_message(input.content), wanted.options())
        return GeneratePayload(generation=Generation.from_row(row))

    @resolved("Stops a run and tells how it ended; one that has ended stays as it is.")
    @mendable(GeneratePayload)
    async def cancel_generation(self, info: Info, input: Input[CancelGenerationInput]) -> GeneratePayload:
        row = await generations.cancel(info.context.call, input.id)
        info.context.loaders.forget()
        return GeneratePayload(generation=Generation.from_row(row))
