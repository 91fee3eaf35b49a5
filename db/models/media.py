"""Pictures and other files that messages refer to."""

from __future__ import annotations

import secrets
import time
from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, now

_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
_LENGTH = 26


def new_media_id() -> str:
    """The moment in milliseconds and 80 bits by chance, as a ULID writes them."""
    number = time.time_ns() // 1_000_000 << 80 | secrets.randbits(80)
    return "jan_" + "".join(_LETTERS[number >> 5 * place & 31] for place in reversed(range(_LENGTH)))


class Media(Base):
    """A file that is kept in the folder of its user. `mime` and `size` are what was found in it, not what was said of it.

    `digest` is its SHA-256 in hex, by which the same file is known again; null where its id had been told before it came.
    """

    __tablename__ = "media"
    __table_args__ = (UniqueConstraint("user_id", "digest"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=new_media_id)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    digest: Mapped[str | None]
    mime: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger())
    name: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
