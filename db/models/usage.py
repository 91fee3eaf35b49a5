"""What was used, and what it may cost."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, new_id, now


class BudgetPeriod(StrEnum):
    """The span of UTC time that a budget is for."""

    DAY = "day"
    MONTH = "month"
    TOTAL = "total"


class UsageRecord(Base):
    """The ledger: appended once an attempt ends, never changed. Ephemeral generations have a row here and nowhere else.

    `credential_id` is what the caller came with (`ses_…`, `key_…`). `cost_nanos` in billionths of a US dollar, null where no
    price was known. `duration_ms` from the start of the attempt to its end.
    """

    __tablename__ = "usage_records"
    __table_args__ = (
        UniqueConstraint("generation_id", "attempt"),
        Index("ix_usage_records_user", "user_id", "created_at"),
        Index("ix_usage_records_credential", "credential_id", "created_at"),
        Index("ix_usage_records_created_at", "created_at"),
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
    cached_tokens: Mapped[int] = mapped_column(default=0, server_default="0")
    reasoning_tokens: Mapped[int] = mapped_column(default=0, server_default="0")
    provenance: Mapped[str]
    cost_nanos: Mapped[int | None] = mapped_column(BigInteger())
    duration_ms: Mapped[int] = mapped_column(default=0, server_default="0")
    conversation_id: Mapped[str | None]
    credential_id: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Budget(Base):
    """The most that a user, or the holder of one of their API keys, may spend in a period. `subject_id` is `user_…` or `key_…`."""

    __tablename__ = "budgets"

    subject_id: Mapped[str] = mapped_column(primary_key=True)
    period: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    limit_nanos: Mapped[int] = mapped_column(BigInteger())
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)


class Reservation(Base):
    """What a run that has not ended may come to cost; gone with its end, and of no effect after `expires_at`."""

    __tablename__ = "reservations"
    __table_args__ = (Index("ix_reservations_user", "user_id"),)

    generation_id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    credential_id: Mapped[str | None]
    amount_nanos: Mapped[int] = mapped_column(BigInteger())
    expires_at: Mapped[datetime]
