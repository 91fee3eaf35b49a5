"""People, what they sign in with, and what they prefer."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, new_id, now


class Role(StrEnum):
    GUEST = "guest"
    USER = "user"
    ADMIN = "admin"


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


class UserSettings(Base):
    """A user's preferences as they were set; what is absent has its default."""

    __tablename__ = "user_settings"

    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    values: Mapped[dict[str, object]] = mapped_column(default=dict)
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)
