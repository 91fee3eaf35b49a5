"""Run by Alembic with the connection that `db.migrate` holds; nothing is configured here and nothing is committed."""

from __future__ import annotations

from typing import Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import JSON

from db import models  # noqa: F401  (fills the metadata)
from db.base import Base, Text, UtcDateTime
from db.migrate import is_compared
from db.models import indexes  # noqa: F401


def render_item(kind: str, item: object, _context: AutogenContext) -> str | Literal[False]:
    """Our own types by the plain names that `script.py.mako` defines: a revision must outlive the code of its day."""
    if kind == "type":
        for ours, name in ((Text, "TEXT"), (UtcDateTime, "MOMENT"), (JSON, "DOCUMENT")):
            if isinstance(item, ours):
                return name
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_item=render_item,
    include_object=is_compared(context.config.attributes["connection"].dialect.name),
    render_as_batch=context.config.attributes["connection"].dialect.name == "sqlite",
)
context.run_migrations()
