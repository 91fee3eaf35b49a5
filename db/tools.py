"""Tools and their servers. Changes are told to all processes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import or_, select, update

from db.base import ReadSession, WriteSession, new_id, now
from db.dialects import inserting
from db.models import ToolRecord, ToolServer

TOPIC = "tools"


@dataclass(frozen=True, slots=True)
class Everything:
    """All tools and servers, as every process keeps them in memory, in the order of their making."""

    servers: Sequence[ToolServer]
    tools: Sequence[ToolRecord]


def announce(session: WriteSession) -> None:
    """Has every process read the tools anew once this is committed."""
    session.wakes.append((TOPIC, time.time_ns() // 1000))


async def everything(session: ReadSession) -> Everything:
    return Everything(
        (await session.scalars(select(ToolServer).order_by(ToolServer.created_at, ToolServer.id))).all(),
        (await session.scalars(select(ToolRecord).order_by(ToolRecord.created_at, ToolRecord.id))).all(),
    )


async def put_servers(session: WriteSession, servers: Sequence[Mapping[str, object]]) -> None:
    """Those of the operator's settings, under their names: whoever had one of these before has it no more."""
    insert = inserting(session)
    made = dict.fromkeys(("created_at", "updated_at"), now())
    for server in servers:
        told = {"ciphertext": None, "header_names": [], "is_configured": True, **server}
        row = insert(ToolServer).values(id=new_id("tsrv"), is_enabled=True, **made, **told)
        await session.execute(row.on_conflict_do_update(index_elements=["name"], set_=told))


async def add_missing(session: WriteSession, tools: Sequence[Mapping[str, object]]) -> None:
    """Adds what is not there yet; of several processes that do so at once, one does."""
    insert = inserting(session)
    made = dict.fromkeys(("created_at", "updated_at"), now())
    for tool in tools:
        row: dict[str, object] = {
            "id": new_id("tool"),
            "tags": [],
            "disallowed_keywords": [],
            "require_approval_for": [],
            "metadata": {},
        }
        row |= {"is_listed": True, "is_enabled": True, **made, **tool}
        await session.execute(insert(ToolRecord.__table__).values(row).on_conflict_do_nothing())  # type: ignore[arg-type]


async def change_listed(
    session: WriteSession, changed: Mapping[str, Mapping[str, object]], gone: Sequence[str]
) -> None:
    """What servers say now of these tools, by id, and which of them they no longer have."""
    for id, listed in changed.items():
        await _update(session, [id], is_listed=True, **listed)
    if gone:
        await _update(session, gone, is_listed=False)


async def sealed_otherwise(session: ReadSession, mark: str) -> Sequence[ToolServer]:
    """The servers whose headers were not sealed with the secret of this mark."""
    query = select(ToolServer).where(~ToolServer.ciphertext.startswith(mark)).order_by(ToolServer.id)
    return (await session.scalars(query)).all()


async def reseal(session: WriteSession, id: str, old: str, new: str) -> None:
    """Unless the secrets have been replaced meanwhile."""
    await session.execute(
        update(ToolServer)
        .where(ToolServer.id == id, ToolServer.ciphertext == old)
        .values(ciphertext=new)
        .execution_options(synchronize_session=False)
    )


async def find(session: WriteSession, key: str) -> ToolRecord | None:
    """By its id or its name; locked until the transaction ends."""
    is_meant = or_(ToolRecord.id == key, ToolRecord.name == key)
    return await session.scalar(select(ToolRecord).where(is_meant).with_for_update())


async def server(session: WriteSession, id: str) -> ToolServer | None:
    """Locked until the transaction ends."""
    return await session.scalar(select(ToolServer).where(ToolServer.id == id).with_for_update())


async def server_named(session: ReadSession, name: str) -> ToolServer | None:
    return await session.scalar(select(ToolServer).where(ToolServer.name == name))


async def _update(session: WriteSession, ids: Sequence[str], **values: object) -> None:
    await session.execute(
        update(ToolRecord)
        .where(ToolRecord.id.in_(ids))
        .values(updated_at=now(), **values)
        .execution_options(synchronize_session=False)
    )
