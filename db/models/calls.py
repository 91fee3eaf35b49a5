"""Uses of tools within runs."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, new_id, now


class CallStatus(StrEnum):
    """RUNNING until it has ended, whichever way."""

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
