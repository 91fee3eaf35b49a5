"""Conversations: trees of items, the projects they lie in, their links, what is searched, and the feed of their changes."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, new_id, now
from db.dialects import OnPostgresql

MAIN = "MAIN"
# The type of an item that holds one use of a tool, and of a part that says what was called.
TOOL_CALL = "tool_call"


class ItemStatus(StrEnum):
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"


class Project(Base):
    """A folder of conversations with an instruction that is put before each of them."""

    __tablename__ = "projects"
    __table_args__ = (UniqueConstraint("user_id", "name"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("proj"))
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str]
    instruction: Mapped[str | None]
    is_favorite: Mapped[bool] = mapped_column(default=False)
    archived_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)


class Conversation(Base):
    """`is_title_own`: a person wrote the title, so nothing else ever does."""

    __tablename__ = "conversations"
    __table_args__ = (
        Index("ix_conversations_recent", "user_id", "is_archived", "updated_at", "id"),
        Index("ix_conversations_created", "user_id", "is_archived", "created_at", "id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("conv"))
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    title: Mapped[str | None]
    is_title_own: Mapped[bool] = mapped_column(default=False, server_default=false())
    details: Mapped[dict[str, object]] = mapped_column("metadata", default=dict)
    project_id: Mapped[str | None] = mapped_column(index=True)
    referrer: Mapped[str | None]
    is_archived: Mapped[bool] = mapped_column(default=False)
    version: Mapped[int] = mapped_column(default=1)
    active_branch: Mapped[str] = mapped_column(default=MAIN)
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)


class Branch(Base):
    """A named line through a conversation: its own items, after those of `parent_id` up to `fork_position`.

    `length` counts all items along the line; taking a position is one UPDATE of it, so positions are dense and unique.
    """

    __tablename__ = "branches"
    __table_args__ = (UniqueConstraint("conversation_id", "name"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("br"))
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(default=MAIN)
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("branches.id", ondelete="CASCADE"), index=True)
    fork_position: Mapped[int] = mapped_column(default=0)
    length: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(default=now)


class Item(Base):
    """One entry of a conversation. `content` is a list of typed parts; `is_plain` when it was written as one string.

    `parent_id` is the item before it along its line; those of one parent are alternatives of each other (siblings).
    `version` counts its changes.
    """

    __tablename__ = "items"
    __table_args__ = (
        UniqueConstraint("branch_id", "position"),
        Index("ix_items_siblings", "conversation_id", "parent_id"),
        Index("ix_items_conversation_id", "conversation_id", "id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("msg"))
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    branch_id: Mapped[str] = mapped_column(ForeignKey("branches.id", ondelete="CASCADE"))
    position: Mapped[int]
    type: Mapped[str] = mapped_column(default="message")
    role: Mapped[str]
    status: Mapped[str] = mapped_column(default=ItemStatus.COMPLETED)
    content: Mapped[list[dict[str, object]]] = mapped_column(default=list)
    is_plain: Mapped[bool] = mapped_column(default=True)
    generation_id: Mapped[str | None] = mapped_column(index=True)
    parent_id: Mapped[str | None]
    version: Mapped[int] = mapped_column(default=1, server_default="1")
    rating: Mapped[str | None]
    rating_comment: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)

    @property
    def text(self) -> str:
        """The text of all text parts."""
        return "".join(str(part["text"]) for part in self.content if part.get("type") == "text")


class Share(Base):
    """A link to a conversation, or to one item of it. Whoever has `slug` may read; nothing of the owner's is shown else.

    A live share (`branch_id` null) shows the branch of the name `branch`, whichever that is at the time, as it grows. Another
    shows the items up to `until_position` of the branch `branch_id`, whatever name that has come to have.
    """

    __tablename__ = "shares"
    __table_args__ = (Index("ix_shares_user", "user_id", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("shr"))
    slug: Mapped[str] = mapped_column(unique=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), index=True)
    branch: Mapped[str] = mapped_column(default=MAIN)
    branch_id: Mapped[str | None] = mapped_column(ForeignKey("branches.id", ondelete="CASCADE"), index=True)
    item_id: Mapped[str | None]
    until_position: Mapped[int | None]
    title: Mapped[str | None]
    options: Mapped[dict[str, object]] = mapped_column(default=dict)
    view_count: Mapped[int] = mapped_column(default=0)
    last_viewed_at: Mapped[datetime | None]
    like_count: Mapped[int] = mapped_column(default=0)
    unlike_count: Mapped[int] = mapped_column(default=0)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)


class SearchEntry(Base):
    """The words of an item, or of a conversation's title (`item_id` null), as `db.words` makes them.

    `tokens` are for the full text index: a tsvector on PostgreSQL, on SQLite the content of the FTS5 table `search_index`,
    which triggers keep in step; the migration makes both, `db.models.indexes` names the first.
    """

    __tablename__ = "search_entries"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)
    user_id: Mapped[str]
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), index=True)
    item_id: Mapped[str | None] = mapped_column(ForeignKey("items.id", ondelete="CASCADE"), unique=True)
    kind: Mapped[str]
    words: Mapped[str]
    tokens: Mapped[str] = mapped_column(String().with_variant(OnPostgresql("TSVECTOR"), "postgresql"))
    created_at: Mapped[datetime]


class Change(Base):
    """The feed of a user's conversations. `seq` counts 1, 2, 3 … for each user: it is taken by one UPDATE of
    `users.last_change` in the transaction that makes the change, so no reader can pass over one that commits late."""

    __tablename__ = "changes"
    __table_args__ = (Index("ix_changes_created_at", "created_at"),)

    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    conversation_id: Mapped[str]
    item_id: Mapped[str | None]
    generation_id: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
