"""Views of shares are counted in memory and written together; what the database cannot take now is not lost."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from db.base import Database, StorageError
from db.models import Conversation, Share, User
from engine.views import Views

pytestmark = pytest.mark.anyio


async def counted(database: Database) -> list[tuple[str, int, bool]]:
    async with database.read() as session:
        rows = await session.scalars(select(Share).order_by(Share.slug))
    return [(row.slug, row.view_count, row.last_viewed_at is not None) for row in rows]


async def test_views_are_added_up_and_kept_while_the_database_is_away(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with database.write() as session:
        session.add(User(id="user_1"))
        await session.flush()
        session.add(Conversation(id="conv_1", user_id="user_1"))
        await session.flush()
        session.add_all(
            Share(id=f"shr_{slug}", slug=slug, user_id="user_1", conversation_id="conv_1") for slug in "abc"
        )
    views = Views()
    for slug in "aab":
        views.note(f"shr_{slug}")
    # One that is deleted meanwhile is nobody's.
    views.note("shr_gone")

    def away() -> object:
        raise StorageError("away")

    with monkeypatch.context() as patch:
        patch.setattr(database, "write", away)
        with pytest.raises(StorageError):
            await views.flush(database)
    views.note("shr_a")
    await views.flush(database)
    await views.flush(database)
    assert await counted(database) == [("a", 3, True), ("b", 1, True), ("c", 0, False)]
