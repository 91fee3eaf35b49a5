"""Tools that models may call, and the servers that have them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, new_id, now


class ToolServer(Base):
    """Where tools come from. One that `is_configured` stands in the operator's settings, which say where it is; of another
    `ciphertext` holds the sealed headers (their names are in `header_names`), bound to this row and to `url`."""

    __tablename__ = "tool_servers"

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("tsrv"))
    name: Mapped[str] = mapped_column(unique=True)
    transport: Mapped[str]
    url: Mapped[str] = mapped_column(default="")
    ciphertext: Mapped[str | None]
    header_names: Mapped[list[str]] = mapped_column(default=list)
    tags: Mapped[list[str]] = mapped_column(default=list)
    is_configured: Mapped[bool] = mapped_column(default=False)
    is_enabled: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)


class ToolRecord(Base):
    """A tool: first what its server says of it, as long as it `is_listed` there; then what administrators say.

    `name` is what models call it by. It is given once, so that no other tool is ever meant by it. `problem` is why it cannot
    be used; `own_description` stands in the place of the server's.
    """

    __tablename__ = "tools"
    __table_args__ = (UniqueConstraint("server_id", "remote_name"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("tool"))
    server_id: Mapped[str] = mapped_column(ForeignKey("tool_servers.id", ondelete="CASCADE"))
    remote_name: Mapped[str]
    name: Mapped[str] = mapped_column(unique=True)
    title: Mapped[str] = mapped_column(default="")
    description: Mapped[str] = mapped_column(default="")
    parameters: Mapped[dict[str, object]] = mapped_column(default=dict)
    hints: Mapped[list[str]] = mapped_column(default=list)
    problem: Mapped[str] = mapped_column(default="")
    is_listed: Mapped[bool] = mapped_column(default=True)
    is_enabled: Mapped[bool] = mapped_column(default=True)
    reason: Mapped[str | None]
    own_description: Mapped[str | None]
    category: Mapped[str | None]
    tags: Mapped[list[str]] = mapped_column(default=list)
    disallowed_keywords: Mapped[list[str]] = mapped_column(default=list)
    require_approval: Mapped[bool | None]
    require_approval_for: Mapped[list[str]] = mapped_column(default=list)
    details: Mapped[dict[str, object]] = mapped_column("metadata", default=dict)
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)
