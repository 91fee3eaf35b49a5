"""Conversations and the items in them."""

from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Annotated, TypeAlias

import strawberry
from strawberry.scalars import JSON

from db import models
from graph.relay import (
    After,
    Before,
    Connection,
    Edge,
    First,
    Info,
    Last,
    Node,
    connection,
    given,
    or_absent,
    resolved,
    shaped,
)

# As a module, because the two refer to each other.
from graph.types import generation as generations
from graph.types import share as links
from graph.types.branch import Branch
from graph.types.content import ContentInput, ContentPart, parts, tool_call
from graph.types.options import GenerateOptions
from graph.types.payload import UserError
from graph.types.project import Project
from graph.types.repetition import Repeatable
from resolvers import conversations
from resolvers.conversations import ABSENT, Change, Filter, Sort, SortKey
from resolvers.errors import NotFound
from resolvers.paging import Page, Window

if TYPE_CHECKING:
    from graph.types.generation import Generation
    from graph.types.share import Share

Link: TypeAlias = Annotated["Share", strawberry.lazy("graph.types.share")]
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


@strawberry.enum(description="What a user thinks of a message.")
class Rating(Enum):
    LIKE = strawberry.enum_value("like", description="Good.")
    UNLIKE = strawberry.enum_value("unlike", description="Bad.")


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
    version: int = strawberry.field(description="Counts its changes, for `expectedVersion`.")
    rating: Rating | None = strawberry.field(description="What its owner thinks of it.")
    rating_comment: str | None = strawberry.field(description="Why its owner thinks so.")
    generation_id: strawberry.Private[str | None]
    place: strawberry.Private[tuple[str, str | None]]

    @resolved("The run that wrote it; null for what people wrote.")
    async def generation(self, info: Info) -> Run | None:
        if self.generation_id is None:
            return None
        row = await info.context.loaders.generations.load(self.generation_id)
        return shaped(generations.Generation.from_row, row)

    @resolved("Its alternatives, itself included, oldest first: what follows the same item on any branch.")
    async def siblings(self, info: Info) -> list["Message"]:
        found = await info.context.loaders.siblings.load(self.place)
        return [Message.from_row(row) for row in found if row.type != models.TOOL_CALL] or [self]

    @classmethod
    def from_row(cls, row: models.Item) -> "Message":
        return cls(
            id=strawberry.ID(row.id),
            position=row.position,
            created_at=row.created_at,
            role=MessageRole(row.role),
            status=ItemStatus(row.status),
            content=parts(row.content),
            text=row.text,
            updated_at=row.updated_at,
            version=row.version,
            rating=Rating(row.rating) if row.rating is not None else None,
            rating_comment=row.rating_comment,
            generation_id=row.generation_id,
            place=(row.conversation_id, row.parent_id),
        )


@strawberry.type(description="A use of a tool of this server in a run, with what it gave.")
class ToolCall(Item, Node):
    name: str = strawberry.field(description="Name of the tool.")
    arguments: str = strawberry.field(description="The arguments as the model wrote them, or as a person changed them.")
    output: str | None = strawberry.field(description="What the model was told; null until the call has ended.")
    is_error: bool = strawberry.field(description="Whether it failed.")
    error_code: str | None = strawberry.field(description="Why there is no result; null where there is one.")
    status: ItemStatus = strawberry.field(description="Whether it has ended, and with a result.")
    generation_id: strawberry.Private[str | None]

    @resolved("The run that called it.")
    async def generation(self, info: Info) -> Run | None:
        if self.generation_id is None:
            return None
        row = await info.context.loaders.generations.load(self.generation_id)
        return shaped(generations.Generation.from_row, row)

    @classmethod
    def from_row(cls, row: models.Item) -> "ToolCall":
        call = tool_call(row.content[0])
        return cls(
            id=strawberry.ID(row.id),
            position=row.position,
            created_at=row.created_at,
            name=call.name,
            arguments=call.arguments,
            output=call.output,
            is_error=call.is_error,
            error_code=call.error_code,
            status=ItemStatus(row.status),
            generation_id=row.generation_id,
        )


def item(row: models.Item) -> Message | ToolCall:
    return ToolCall.from_row(row) if row.type == models.TOOL_CALL else Message.from_row(row)


@strawberry.type(description="A conversation: items in their order.")
class Conversation(Node):
    title: str | None = strawberry.field(description="Its title, if it was given one.")
    metadata: JSON = strawberry.field(description="The caller's own data: an object.")
    is_archived: bool = strawberry.field(description="Whether it was put away; lists leave such ones out unless asked.")
    version: int = strawberry.field(description="Counts the changes of what stands above, for `expectedVersion`.")
    referrer: str | None = strawberry.field(description="Where it came from, if that was told.")
    active_branch: str = strawberry.field(description="Name of the branch that is shown and written to.")
    project_id: strawberry.ID | None = strawberry.field(description="ID of the project that it is in, if any.")
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
        branch: Annotated[
            str | None, strawberry.argument(description="Along which branch; the active one by default.")
        ] = strawberry.UNSET,
    ) -> Connection[Item]:
        window, name = Window.make(given(first), given(after), given(last), given(before)), given(branch)
        page = await info.context.loaders.item_pages.load((self.id, (window, name)))
        if page is None and name is not None:
            raise NotFound("branch", name)
        return connection(page or EMPTY, item)

    @resolved("Links to it, the newest first, revoked ones too.")
    async def shares(self, info: Info) -> list[Link]:
        return [links.Share.from_row(row) for row in await info.context.loaders.conversation_shares.load(self.id)]

    @resolved("Its branches, oldest first.")
    async def branches(self, info: Info) -> list[Branch]:
        return [Branch.from_lineage(one) for one in await info.context.loaders.branches.load(self.id) or ()]

    @resolved("The project that it is in, if any.")
    async def project(self, info: Info) -> Project | None:
        if self.project_id is None:
            return None
        return shaped(Project.from_row, await info.context.loaders.projects.load(self.project_id))

    @resolved("The newest run that is writing into it, if any.")
    async def active_generation(self, info: Info) -> Run | None:
        row = await info.context.loaders.active_generations.load(self.id)
        return shaped(generations.Generation.from_row, row)

    @classmethod
    def from_row(cls, row: models.Conversation) -> "Conversation":
        return cls(
            id=strawberry.ID(row.id),
            title=row.title,
            metadata=JSON(row.details),
            is_archived=row.is_archived,
            version=row.version,
            referrer=row.referrer,
            active_branch=row.active_branch,
            project_id=strawberry.ID(row.project_id) if row.project_id is not None else None,
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


@strawberry.input(description="A text that stands in the metadata.")
class MetadataEntry:
    key: str = strawberry.field(description="Its key: 1 to 64 of `A-Z a-z 0-9 _ . : -`.")
    value: str = strawberry.field(description="The whole text.")


@strawberry.input(description="Which conversations.")
class ConversationFilter:
    search: str | None = strawberry.field(
        default=strawberry.UNSET, description="Those whose title or items match; read as in `Query.search`."
    )
    is_archived: bool | None = strawberry.field(
        default=False, description="Those that were put away, or those that were not; null for both."
    )
    project_id: strawberry.ID | None = strawberry.field(default=strawberry.UNSET, description="Those in this project.")
    referrer: str | None = strawberry.field(default=strawberry.UNSET, description="Those that came from there.")
    metadata: list[MetadataEntry] | None = strawberry.field(
        default=strawberry.UNSET, description="Those whose metadata has all of these."
    )

    def wanted(self) -> Filter:
        return Filter(
            self.is_archived,
            given(self.search),
            given(self.project_id),
            given(self.referrer),
            {entry.key: entry.value for entry in given(self.metadata) or ()},
        )


@strawberry.type(description="A page of conversations.")
class ConversationConnection(Connection[Conversation]):
    filter: strawberry.Private[ConversationFilter]

    @resolved("How many there are on all pages; counted only when asked for.")
    async def total_count(self, info: Info) -> int:
        return await conversations.count(info.context.call, self.filter.wanted())


@strawberry.input(description="A new conversation.")
class CreateConversationInput(Repeatable):
    title: str | None = strawberry.field(default=strawberry.UNSET, description="Its title: at most 256 characters.")
    metadata: JSON | None = strawberry.field(
        default=strawberry.UNSET, description="The caller's own data: an object of at most 16,384 bytes."
    )
    project_id: strawberry.ID | None = strawberry.field(default=strawberry.UNSET, description="Project to put it into.")
    referrer: str | None = strawberry.field(default=strawberry.UNSET, description="Where it comes from.")


@strawberry.input(description="What a conversation shall become. What is left out stays as it is; null clears.")
class UpdateConversationInput:
    id: strawberry.ID = strawberry.field(description="ID of the conversation.")
    title: str | None = strawberry.field(
        default=strawberry.UNSET, description="Its title: at most 256 characters. One that is given is never replaced."
    )
    metadata: JSON | None = strawberry.field(
        default=strawberry.UNSET,
        description="Changes to the caller's own data, key by key; null removes a key. All of it at most 16,384 bytes.",
    )
    project_id: strawberry.ID | None = strawberry.field(default=strawberry.UNSET, description="Project to put it into.")
    referrer: str | None = strawberry.field(default=strawberry.UNSET, description="Where it comes from.")
    is_archived: bool | None = strawberry.field(default=strawberry.UNSET, description="Whether it is put away.")
    expected_version: int | None = strawberry.field(
        default=strawberry.UNSET, description="The version that is to be changed; another one is a conflict."
    )

    def change(self) -> Change:
        # Null changes nothing of the metadata: it is no object.
        metadata = ABSENT if given(self.metadata) is None else self.metadata
        return Change(
            title=or_absent(self.title),
            metadata=metadata,
            project_id=or_absent(self.project_id),
            referrer=or_absent(self.referrer),
            is_archived=or_absent(self.is_archived),
            expected_version=given(self.expected_version),
        )


@strawberry.type(description="A conversation that was changed.")
class UpdateConversationPayload:
    conversation: Conversation | None = strawberry.field(default=None, description="The conversation.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")


@strawberry.input(description="Which conversations to delete.")
class DeleteConversationsInput:
    ids: list[strawberry.ID] = strawberry.field(description="Their IDs: at most 100.")


@strawberry.type(description="Conversations that were deleted.")
class DeleteConversationsPayload:
    deleted_ids: list[strawberry.ID] = strawberry.field(
        default_factory=list, description="Those that were there, in no order."
    )
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")


@strawberry.type(description="A conversation that was made.")
class CreateConversationPayload:
    conversation: Conversation | None = strawberry.field(default=None, description="The conversation.")
    conversation_edge: Edge[Conversation] | None = strawberry.field(
        default=None, description="Its edge in `Query.conversations` without arguments."
    )
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")


@strawberry.input(description="A message of the user.")
class SendMessageInput(Repeatable):
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
