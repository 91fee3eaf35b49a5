"""What a link shows to whoever has it: what was said, and nothing of who said it."""

from datetime import datetime

import strawberry

from db import models
from graph.relay import After, Connection, First, Info, connection, given, resolved
from graph.types.content import ContentPart, parts
from graph.types.conversation import ItemStatus, MessageRole
from resolvers import shares
from resolvers.paging import Window
from resolvers.shares import Opened


@strawberry.type(description="A message as a share shows it.")
class SharedMessage:
    id: strawberry.ID = strawberry.field(description="ID of the message.")
    position: int = strawberry.field(description="Its place in the conversation, of which not every one is shown.")
    role: MessageRole = strawberry.field(description="Who says it.")
    status: ItemStatus = strawberry.field(description="Whether it is whole.")
    content: list[ContentPart] = strawberry.field(description="Its pieces.")
    text: str = strawberry.field(description="The text of all its text parts.")
    created_at: datetime = strawberry.field(description="When it was added.")

    @classmethod
    def from_row(cls, row: models.Item) -> "SharedMessage":
        return cls(
            id=strawberry.ID(row.id),
            position=row.position,
            role=MessageRole(row.role),
            status=ItemStatus(row.status),
            content=parts(row.content),
            text=row.text,
            created_at=row.created_at,
        )


@strawberry.type(description="What a link shows.")
class SharedConversation:
    title: str | None = strawberry.field(description="Its title.")
    is_live: bool = strawberry.field(description="Whether it still grows.")
    allows_feedback: bool = strawberry.field(description="Whether its owner likes to know what viewers think of it.")
    expires_at: datetime | None = strawberry.field(description="When the link ends; null for never.")
    created_at: datetime = strawberry.field(description="When it was shared.")
    opened: strawberry.Private[Opened]

    @resolved("What was said, oldest first.")
    async def items(
        self, info: Info, first: First = strawberry.UNSET, after: After = strawberry.UNSET
    ) -> Connection[SharedMessage]:
        window = Window.make(given(first), given(after), None, None)
        return connection(await shares.page_of(info.context.call, self.opened, window), SharedMessage.from_row)

    @classmethod
    def from_opened(cls, found: Opened) -> "SharedConversation":
        return cls(
            title=found.title,
            is_live=shares.is_live(found.share),
            allows_feedback=shares.option(found.share, "allow_feedback"),
            expires_at=found.share.expires_at,
            created_at=found.share.created_at,
            opened=found,
        )
