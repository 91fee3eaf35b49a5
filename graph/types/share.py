"""Links to conversations, as their owners have them."""

from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Annotated, TypeAlias

import strawberry

from db import models
from graph.relay import Info, Node, given, resolved, shaped

# As a module, because the two refer to each other.
from graph.types import conversation as conversations
from graph.types.payload import UserError
from graph.types.repetition import Repeatable
from resolvers import shares
from resolvers.shares import NewShare

if TYPE_CHECKING:
    from graph.types.conversation import Conversation

Parent: TypeAlias = Annotated["Conversation", strawberry.lazy("graph.types.conversation")]


@strawberry.type(description="A link to a conversation, or to one answer in it. Whoever has it may read what it shows.")
class Share(Node):
    slug: str = strawberry.field(description="Secret of the link.")
    path: str = strawberry.field(description="Address of its page on this server, without the host.")
    title: str | None = strawberry.field(description="Its own title; null where it bears that of the conversation.")
    branch: str = strawberry.field(description="Name of the branch that was shared.")
    item_id: strawberry.ID | None = strawberry.field(description="ID of the one answer it shows; null for all of it.")
    is_live: bool = strawberry.field(description="Whether it grows with its branch.")
    includes_images: bool = strawberry.field(description="Whether images are shown.")
    includes_context: bool = strawberry.field(description="Whether, with `itemId`, what was said before is shown too.")
    allows_feedback: bool = strawberry.field(description="Whether viewers may say what they think of it.")
    view_count: int = strawberry.field(description="How often it was opened; counted some seconds later.")
    last_viewed_at: datetime | None = strawberry.field(description="When it was last opened; null for never.")
    like_count: int = strawberry.field(description="How many viewers liked it.")
    unlike_count: int = strawberry.field(description="How many did not.")
    expires_at: datetime | None = strawberry.field(description="When it ends; null for never.")
    revoked_at: datetime | None = strawberry.field(description="When it was taken back; null if it was not.")
    created_at: datetime = strawberry.field(description="When it was made.")
    conversation_id: strawberry.Private[str]

    @resolved("The conversation that it is a link to.")
    async def conversation(self, info: Info) -> Parent | None:
        row = await info.context.loaders.conversations.load(self.conversation_id)
        return shaped(conversations.Conversation.from_row, row)

    @classmethod
    def from_row(cls, row: models.Share) -> "Share":
        return cls(
            id=strawberry.ID(row.id),
            slug=row.slug,
            path=shares.PATH + row.slug,
            title=row.title,
            branch=row.branch,
            item_id=strawberry.ID(row.item_id) if row.item_id is not None else None,
            is_live=shares.is_live(row),
            includes_images=shares.option(row, "include_images"),
            includes_context=shares.option(row, "include_context_messages"),
            allows_feedback=shares.option(row, "allow_feedback"),
            view_count=row.view_count,
            last_viewed_at=row.last_viewed_at,
            like_count=row.like_count,
            unlike_count=row.unlike_count,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
            created_at=row.created_at,
            conversation_id=row.conversation_id,
        )


@strawberry.input(description="A link to make.")
class ShareConversationInput(Repeatable):
    conversation_id: strawberry.ID = strawberry.field(description="ID of the conversation.")
    item_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="ID of the one answer to show; all of the branch by default."
    )
    branch: str | None = strawberry.field(
        default=strawberry.UNSET, description="Name of the branch to show; the active one by default."
    )
    title: str | None = strawberry.field(
        default=strawberry.UNSET, description="Its own title; that of the conversation by default."
    )
    expires_in: int | None = strawberry.field(
        default=strawberry.UNSET, description="Seconds until it ends: 1 to 316,224,000; never by default."
    )
    includes_images: bool = strawberry.field(default=True, description="Whether images are shown.")
    includes_context: bool = strawberry.field(
        default=False, description="Whether, with `itemId`, what was said before is shown too."
    )
    allows_feedback: bool = strawberry.field(
        default=False, description="Whether viewers may say what they think of it."
    )
    is_live: bool = strawberry.field(
        default=True, description="Whether it grows with its branch, or ends where that ends now."
    )

    def share(self) -> NewShare:
        return NewShare(
            title=given(self.title),
            branch=given(self.branch),
            item_id=given(self.item_id),
            expires_in=given(self.expires_in),
            includes_images=self.includes_images,
            includes_context=self.includes_context,
            allows_feedback=self.allows_feedback,
            is_live=self.is_live,
        )


@strawberry.input(description="A link to give another title.")
class UpdateShareInput:
    id: strawberry.ID = strawberry.field(description="ID of the share.")
    title: str | None = strawberry.field(description="Its own title; null for that of the conversation.")


@strawberry.input(description="A link to take back.")
class RevokeShareInput:
    id: strawberry.ID = strawberry.field(description="ID of the share.")


@strawberry.input(description="A link to go on from.")
class ForkShareInput(Repeatable):
    slug: str = strawberry.field(description="Secret of the link.")


@strawberry.enum(description="What somebody thinks of a share.")
class ShareRating(Enum):
    LIKE = strawberry.enum_value("like", description="They like it.")
    UNLIKE = strawberry.enum_value("unlike", description="They do not.")


@strawberry.input(description="What a viewer thinks of a share.")
class RateShareInput:
    slug: str = strawberry.field(description="Secret of the link.")
    rating: ShareRating = strawberry.field(description="What they think of it.")


@strawberry.type(description="A link that was made, changed or taken back.")
class SharePayload:
    share: Share | None = strawberry.field(default=None, description="The link as it is now.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")


@strawberry.type(description="A copy of what a share shows.")
class ForkSharePayload:
    conversation: Parent | None = strawberry.field(default=None, description="The viewer's own conversation.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")


@strawberry.type(description="What rating a share gives.")
class RateSharePayload:
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")
