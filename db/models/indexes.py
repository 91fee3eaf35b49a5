"""The indexes that each database has in words of its own.

Imported where tables are compared with what the migrations make, and not by a server: SQLAlchemy loads all that it has for both.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Index, text
from sqlalchemy.orm import InstrumentedAttribute

from db.models.calls import Approval
from db.models.conversations import SearchEntry
from db.models.generations import Generation


def _partial(name: str, column: InstrumentedAttribute[object], where: str) -> Index:
    condition: ColumnElement[bool] = text(where)  # type: ignore[assignment]
    return Index(name, column, sqlite_where=condition, postgresql_where=condition)


_partial("ix_approvals_pending", Approval.expires_at, "status = 'pending'")
_partial("ix_generations_unfinished", Generation.worker_id, "finished_at IS NULL")
_partial("ix_generations_finished", Generation.finished_at, "has_events")
Index("ix_search_entries_tokens", SearchEntry.tokens, postgresql_using="gin").ddl_if(dialect="postgresql")
