"""Every table on one page. A face may read a row; only the noun files beside this one ask for one."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, LargeBinary, String, UniqueConstraint, false, text
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, new_id, now

MAIN = "MAIN"


class Role(StrEnum):
    GUEST = "guest"
    USER = "user"
    ADMIN = "admin"


class ItemStatus(StrEnum):
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"


class GenerationStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self not in (GenerationStatus.QUEUED, GenerationStatus.RUNNING)


class User(Base):
    """A person. `issuer` and `subject` name one who signs in elsewhere; `email` is kept in lower case."""

    __tablename__ = "users"
    __table_args__ = (Index("uq_users_issuer_subject", "issuer", "subject", unique=True),)

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("user"))
    role: Mapped[str] = mapped_column(default=Role.GUEST)
    email: Mapped[str | None] = mapped_column(unique=True)
    password_hash: Mapped[str | None]
    display_name: Mapped[str | None]
    preferred_model: Mapped[str | None]
    preferences: Mapped[dict[str, object]] = mapped_column(default=dict, server_default="{}")
    issuer: Mapped[str | None]
    subject: Mapped[str | None]
    last_change: Mapped[int] = mapped_column(default=0, server_default="0")
    created_at: Mapped[datetime] = mapped_column(default=now)


class AuthSession(Base):
    """One sign-in: the family of its refresh tokens. `expires_at` is the end of the whole family, however often renewed."""

    __tablename__ = "auth_sessions"

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("ses"))
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class RefreshToken(Base):
    """`id` is the SHA-256 of the token in hex; the token itself is kept nowhere, but for `successor`.

    For the few seconds of grace after a token was used, `successor` holds the token that it was exchanged for, encrypted,
    so that a second tab or a lost answer is given the same one. Used later, it betrays a thief and ends the family.
    """

    __tablename__ = "refresh_tokens"

    id: Mapped[str] = mapped_column(primary_key=True)
    session_id: Mapped[str] = mapped_column(ForeignKey("auth_sessions.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    successor: Mapped[str | None]


class ApiKey(Base):
    """Our credential for a program. `lookup` is the part of the key that finds it, `secret_hash` an HMAC of the whole."""

    __tablename__ = "api_keys"
    __table_args__ = (Index("ix_api_keys_user", "user_id", "created_at"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("key"))
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str]
    lookup: Mapped[str] = mapped_column(unique=True)
    secret_hash: Mapped[str]
    prefix: Mapped[str]
    suffix: Mapped[str]
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class ProviderKey(Base):
    """A user's credential for an upstream, encrypted for this row, this user and the one `origin` that it may be sent to."""

    __tablename__ = "provider_keys"
    __table_args__ = (UniqueConstraint("user_id", "provider"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("pkey"))
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    provider: Mapped[str]
    origin: Mapped[str]
    credential_type: Mapped[str] = mapped_column(default="api_key")
    ciphertext: Mapped[str]
    hint: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Invite(Base):
    """Leave to register, once. `id` is the SHA-256 of the invite token in hex."""

    __tablename__ = "invites"

    id: Mapped[str] = mapped_column(primary_key=True)
    created_by: Mapped[str | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    used_by: Mapped[str | None]


class AuditRecord(Base):
    """Who did what to whose; appended in the transaction that does it. No secret, no content."""

    __tablename__ = "audit_records"
    __table_args__ = (Index("ix_audit_records_created", "created_at", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("aud"))
    actor_id: Mapped[str | None]
    action: Mapped[str]
    target_id: Mapped[str | None]
    details: Mapped[dict[str, object]] = mapped_column(default=dict)
    request_id: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=now)


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


class Generation(Base):
    """One run of a model. `attempt` fences every write of the worker that holds `lease_until`."""

    __tablename__ = "generations"
    __table_args__ = (
        Index("ix_generations_recent", "user_id", "created_at"),
        Index(
            "ix_generations_leases",
            "lease_until",
            sqlite_where=text("lease_until IS NOT NULL"),
            postgresql_where=text("lease_until IS NOT NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("gen"))
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    conversation_id: Mapped[str | None] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), index=True)
    item_id: Mapped[str | None]
    model: Mapped[str]
    provider: Mapped[str]
    status: Mapped[str] = mapped_column(default=GenerationStatus.QUEUED)
    on_disconnect: Mapped[str] = mapped_column(default="continue")
    attempt: Mapped[int] = mapped_column(default=1)
    worker_id: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    last_seq: Mapped[int] = mapped_column(default=0)
    text: Mapped[str] = mapped_column(default="")
    reasoning: Mapped[str] = mapped_column(default="")
    finish_reason: Mapped[str | None]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    error_is_retryable: Mapped[bool | None]
    prompt_tokens: Mapped[int] = mapped_column(default=0)
    completion_tokens: Mapped[int] = mapped_column(default=0)
    usage_provenance: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    finished_at: Mapped[datetime | None]


class EventBatch(Base):
    """A piece of a generation's log: the events `first_seq` to `last_seq`, encoded by `engine.events`."""

    __tablename__ = "generation_events"

    generation_id: Mapped[str] = mapped_column(ForeignKey("generations.id", ondelete="CASCADE"), primary_key=True)
    first_seq: Mapped[int] = mapped_column(primary_key=True)
    last_seq: Mapped[int]
    payload: Mapped[bytes] = mapped_column(LargeBinary)


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
    which triggers keep in step; the migration makes both.
    """

    __tablename__ = "search_entries"
    __table_args__ = (Index("ix_search_entries_tokens", "tokens", postgresql_using="gin").ddl_if(dialect="postgresql"),)

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)
    user_id: Mapped[str]
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), index=True)
    item_id: Mapped[str | None] = mapped_column(ForeignKey("items.id", ondelete="CASCADE"), unique=True)
    kind: Mapped[str]
    words: Mapped[str]
    tokens: Mapped[str] = mapped_column(String().with_variant(TSVECTOR(), "postgresql"))
    created_at: Mapped[datetime]


class UserSettings(Base):
    """A user's preferences as they were set; what is absent has its default."""

    __tablename__ = "user_settings"

    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    values: Mapped[dict[str, object]] = mapped_column(default=dict)
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)


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


class UsageRecord(Base):
    """The ledger: appended once an attempt ends, never changed. Ephemeral generations have a row here and nowhere else."""

    __tablename__ = "usage_records"
    __table_args__ = (
        UniqueConstraint("generation_id", "attempt"),
        Index("ix_usage_records_user", "user_id", "created_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("use"))
    generation_id: Mapped[str]
    attempt: Mapped[int] = mapped_column(default=1)
    user_id: Mapped[str]
    model: Mapped[str]
    provider: Mapped[str]
    status: Mapped[str]
    prompt_tokens: Mapped[int] = mapped_column(default=0)
    completion_tokens: Mapped[int] = mapped_column(default=0)
    provenance: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)
