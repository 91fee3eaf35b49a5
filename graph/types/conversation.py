"""Conversations and the items in them."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Annotated, TypeAlias

import strawberry
from strawberry.scalars import JSON

from db import models
from graph.relay import After, Before, Connection, Edge, First, Info, Last, Node, connection, given, resolved, shaped

# As a module, because the two refer to each other.
from graph.types import generation as generations
from graph.types.content import ContentInput, ContentPart, parts
from graph.types.options import GenerateOptions
from graph.types.payload import UserError
from resolvers import conversations
from resolvers.conversations import Sort, SortKey
from resolvers.paging import Page, Window

if TYPE_CHECKING:
    from graph.types.generation import Generation

Run: TypeAlias = Annotated["Generation", strawberry.lazy("graph.types.generation")]


EMPTY: Page[models.Item] = Page((), (), has_next=False, has_previous=False)


@strawberry.enum(description="Who says a message.")
class MessageRole(Enum):
    USER = strawberry.enum_value("user", description="A person.")
    ASSISTANT = strawberry.enum_value("assistant", description="A model.")
    SYSTEM = strawberry.enum_value("system", description="Instructions to the model.")


@strawberry.enum(description="State of an item.")
class ItemStatus(Enum):
    IN_PROGRESS = strawberry.enum_value("in_progress", description="A run is writing it.")
    COMPLETED = strawberry.enum_value("completed", description="It is whole.")
    INCOMPLETE = strawberry.enum_value("incomplete", description="The run that wrote it did not come to its end.")


@strawberry.interface(description="An entry of a conversation.")
class Item(Node):
    position: int = strawberry.field(description="Its place in the conversation, counted 1, 2, 3 …")
    created_at: datetime = strawberry.field(description="When it was added.")


@strawberry.type(description="Something that a person or a model said.")
class Message(Item, Node):
    role: MessageRole = strawberry.field(description="Who says it.")
    status: ItemStatus = strawberry.field(description="Whether it is whole.")
    content: list[ContentPart] = strawberry.field(
        description="Its pieces; none while a run is writing it: follow `generation` to see them come."
    )
    text: str = strawberry.field(description="The text of all its text parts.")
    updated_at: datetime = strawberry.field(description="When it was last written.")
    generation_id: strawberry.Private[str | None]

    @resolved("The run that wrote it; null for what people wrote.")
    async def generation(self, info: Info) -> Run | None:
        if self.generation_id is None:
            return None
        row = await info.context.loaders.generations.load(self.generation_id)
        return shaped(generations.Generation.from_row, row)

    @classmethod
    def from_row(cls, row: models.Item) -> Message:
        return cls(
            id=strawberry.ID(row.id),
            position=row.position,
            created_at=row.created_at,
            role=MessageRole(row.role),
            status=ItemStatus(row.status),
            content=parts(row.content),
            text=row.text,
            updated_at=row.updated_at,
            generation_id=row.generation_id,
        )


@strawberry.type(description="A conversation: items in their order.")
class Conversation(Node):
    title: str | None = strawberry.field(description="Its title, if it was given one.")
    metadata: JSON = strawberry.field(description="The caller's own data: an object.")
    is_archived: bool = strawberry.field(description="Whether it was put away; lists leave such ones out unless asked.")
    created_at: datetime = strawberry.field(description="When it was made.")
    updated_at: datetime = strawberry.field(description="When it or an item of it last changed.")

    @resolved("Its items, oldest first.")
    async def items(
        self,
        info: Info,
        first: First = strawberry.UNSET,
        after: After = strawberry.UNSET,
        last: Last = strawberry.UNSET,
        before: Before = strawberry.UNSET,
    ) -> Connection[Item]:
        window = Window.make(given(first), given(after), given(last), given(before))
        page = await info.context.loaders.item_pages.load((self.id, window))
        return connection(page or EMPTY, Message.from_row)

    @resolved("The newest run that is writing into it, if any.")
    async def active_generation(self, info: Info) -> Run | None:
        row = await info.context.loaders.active_generations.load(self.id)
        return shaped(generations.Generation.from_row, row)

    @classmethod
    def from_row(cls, row: models.Conversation) -> Conversation:
        return cls(
            id=strawberry.ID(row.id),
            title=row.title,
            metadata=JSON(row.details),
            is_archived=row.is_archived,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )


@strawberry.enum(description="What conversations are ordered by.")
class ConversationOrderField(Enum):
    UPDATED_AT = strawberry.enum_value("updated_at", description="When they last changed.")
    CREATED_AT = strawberry.enum_value("created_at", description="When they were made.")
    TITLE = strawberry.enum_value("title", description="Their title, by code point; none counts as empty.")


@strawberry.enum(description="Which way a list runs.")
class OrderDirection(Enum):
    ASC = strawberry.enum_value("asc", description="From the least to the greatest.")
    DESC = strawberry.enum_value("desc", description="From the greatest to the least.")


@strawberry.input(description="The order of conversations.")
class ConversationOrder:
    field: ConversationOrderField = strawberry.field(description="What they are ordered by.")
    direction: OrderDirection = strawberry.field(description="Which way the list runs.")

    def sort(self) -> Sort:
        return Sort(SortKey[self.field.name], self.direction is OrderDirection.DESC)


@strawberry.input(description="Which conversations.")
class ConversationFilter:
    search: str | None = strawberry.field(
        default=strawberry.UNSET, description="Text in the title; the case of ASCII letters does not matter."
    )
    is_archived: bool | None = strawberry.field(
        default=False, description="Those that were put away, or those that were not; null for both."
    )


@strawberry.type(description="A page of conversations.")
class ConversationConnection(Connection[Conversation]):
    filter: strawberry.Private[ConversationFilter]

    @resolved("How many there are on all pages; counted only when asked for.")
    async def total_count(self, info: Info) -> int:
        wanted = self.filter
        return await conversations.count(info.context.call, is_archived=wanted.is_archived, search=given(wanted.search))


@strawberry.input(description="A new conversation.")
class CreateConversationInput:
    title: str | None = strawberry.field(default=strawberry.UNSET, description="Its title: at most 256 characters.")
    metadata: JSON | None = strawberry.field(
        default=strawberry.UNSET, description="The caller's own data: an object of at most 16,384 bytes."
    )


@strawberry.type(description="A conversation that was made.")
class CreateConversationPayload:
    conversation: Conversation | None = strawberry.field(default=None, description="The conversation.")
    conversation_edge: Edge[Conversation] | None = strawberry.field(
        default=None, description="Its edge in `Query.conversations` without arguments."
    )
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")


@strawberry.input(description="A message of the user.")
class SendMessageInput:
    conversation_id: strawberry.ID = strawberry.field(description="ID of the conversation.")
    content: list[ContentInput] = strawberry.field(description="The message: 1 to 100 pieces.")
    generate: GenerateOptions | None = strawberry.field(
        default=strawberry.UNSET,
        description="How to run the model that replies: `{}` for its defaults, null for no reply.",
    )


@strawberry.type(description="A message that was stored, and the reply that was started.")
class SendMessagePayload:
    message_edge: Edge[Item] | None = strawberry.field(
        default=None, description="Edge of the message in `Conversation.items`."
    )
    reply_edge: Edge[Item] | None = strawberry.field(
        default=None, description="Edge of the item that the reply is written into, if one was asked for."
    )
    generation: Run | None = strawberry.field(
        default=None, description="The run that writes the reply, if one was asked for."
    )
    conversation: Conversation | None = strawberry.field(default=None, description="The conversation.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")
