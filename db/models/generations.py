"""Runs of models, their numbered log, and the workers that hold them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, true
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, new_id, now


class GenerationStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    REQUIRES_APPROVAL = "requires_approval"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self not in _UNFINISHED


_UNFINISHED = frozenset({GenerationStatus.QUEUED, GenerationStatus.RUNNING, GenerationStatus.REQUIRES_APPROVAL})


class Generation(Base):
    """One run of a model, held by `worker_id` for as long as that worker's heart beats; by nobody while it waits for leave. `attempt` fences all that it writes.

    `cost_nanos` in billionths of a US dollar, null where no price is known.
    """

    __tablename__ = "generations"
    __table_args__ = (
        Index("ix_generations_recent", "user_id", "created_at"),
        # and those of the unfinished and of the finished ones in `db.models.indexes`
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
    credential_id: Mapped[str | None]
    has_events: Mapped[bool] = mapped_column(default=True, server_default=true())
    last_seq: Mapped[int] = mapped_column(default=0)
    text: Mapped[str] = mapped_column(default="")
    reasoning: Mapped[str] = mapped_column(default="")
    tool_calls: Mapped[list[dict[str, object]]] = mapped_column(default=list, server_default="[]")
    finish_reason: Mapped[str | None]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    error_is_retryable: Mapped[bool | None]
    prompt_tokens: Mapped[int] = mapped_column(default=0)
    completion_tokens: Mapped[int] = mapped_column(default=0)
    cached_tokens: Mapped[int] = mapped_column(default=0, server_default="0")
    reasoning_tokens: Mapped[int] = mapped_column(default=0, server_default="0")
    usage_provenance: Mapped[str | None]
    cost_nanos: Mapped[int | None] = mapped_column(BigInteger())
    created_at: Mapped[datetime] = mapped_column(default=now)
    finished_at: Mapped[datetime | None]


class EventBatch(Base):
    """A piece of a generation's log: the events `first_seq` to `last_seq`, encoded by `engine.events`."""

    __tablename__ = "generation_events"

    generation_id: Mapped[str] = mapped_column(ForeignKey("generations.id", ondelete="CASCADE"), primary_key=True)
    first_seq: Mapped[int] = mapped_column(primary_key=True)
    last_seq: Mapped[int]
    payload: Mapped[bytes] = mapped_column(LargeBinary)


class Worker(Base):
    """A process that serves. Its heart has stopped when `beat` no longer grows; then what it held is ended for it.

    `running` is what it ran at its last beat, `viewing` how many followed there what others run, by generation. A worker
    that has nothing to do does not beat.
    """

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("wrk"))
    beat: Mapped[int] = mapped_column(default=0)
    running: Mapped[list[dict[str, object]]] = mapped_column(default=list)
    viewing: Mapped[dict[str, object]] = mapped_column(default=dict)
    started_at: Mapped[datetime] = mapped_column(default=now)
    seen_at: Mapped[datetime] = mapped_column(default=now)


class Cancellation(Base):
    """The wish that a run should stop, for whichever worker runs it. `user_id`: only if it is theirs; empty for anybody's."""

    __tablename__ = "cancellations"

    generation_id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(default=now)


class IdempotencyKey(Base):
    """What was done under a caller's key, stored in the transaction that did it. `fingerprint` is of what was asked,
    `result` names what was made, by noun."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("ix_idempotency_keys_created_at", "created_at"),)

    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    result: Mapped[dict[str, object]] = mapped_column(default=dict)
    created_at: Mapped[datetime] = mapped_column(default=now)
