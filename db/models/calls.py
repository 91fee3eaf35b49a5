"""Uses of tools within runs."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, new_id, now


class CallStatus(StrEnum):
    """WAITING for a person's leave, RUNNING, or ended, whichever way."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ToolCall(Base):
    """One use of a tool: written before it begins, so that it is never begun twice, and once more with what came of it.

    `id` is the key that the tool's server is given too. `number` counts the calls of a run from 0, as its events do. `output` is
    what the model was told, `code` why there is no result.
    """

    __tablename__ = "tool_calls"

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("call"))
    generation_id: Mapped[str] = mapped_column(ForeignKey("generations.id", ondelete="CASCADE"), index=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    number: Mapped[int]
    name: Mapped[str]
    arguments: Mapped[str]
    status: Mapped[str] = mapped_column(default=CallStatus.RUNNING)
    output: Mapped[str] = mapped_column(default="")
    is_error: Mapped[bool] = mapped_column(default=False)
    code: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(default=now)
    finished_at: Mapped[datetime | None]


class ApprovalStatus(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Approval(Base):
    """A person's leave to run one call. While one is pending its run waits, and no process holds it.

    `arguments` are those that the model wrote, `changed` those that the person has put in their place.
    """

    __tablename__ = "approvals"
    __table_args__ = (
        Index("ix_approvals_user", "user_id", "id"),
        # and `ix_approvals_pending` in `db.models.indexes`
    )

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("appr"))
    generation_id: Mapped[str] = mapped_column(ForeignKey("generations.id", ondelete="CASCADE"), index=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    conversation_id: Mapped[str | None]
    call_id: Mapped[str]
    tool: Mapped[str]
    arguments: Mapped[str]
    changed: Mapped[str | None]
    status: Mapped[str] = mapped_column(default=ApprovalStatus.PENDING)
    reason: Mapped[str] = mapped_column(default="")
    decided_by: Mapped[str | None]
    decided_at: Mapped[datetime | None]
    expires_at: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Pause(Base):
    """What a run that waits for leave needs to go on: what its model is to be told, and how often it was asked already."""

    __tablename__ = "pauses"

    generation_id: Mapped[str] = mapped_column(ForeignKey("generations.id", ondelete="CASCADE"), primary_key=True)
    state: Mapped[dict[str, object]] = mapped_column(default=dict)
    created_at: Mapped[datetime] = mapped_column(default=now)
