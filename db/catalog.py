"""The catalogue: providers, what they serve, and the names that users know. Changes of it are told to all processes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select, update

from db.base import ReadSession, WriteSession, new_id, now
from db.dialects import inserting
from db.models import CatalogModel, ProviderModel, ProviderRecord

TOPIC = "catalogue"


@dataclass(frozen=True, slots=True)
class Everything:
    """The whole catalogue, as every process keeps it in memory."""

    providers: Sequence[ProviderRecord]
    models: Sequence[ProviderModel]
    names: Sequence[CatalogModel]


def announce(session: WriteSession) -> None:
    """Has every process read the catalogue anew once this is committed."""
    session.wakes.append((TOPIC, time.time_ns() // 1000))


async def everything(session: ReadSession) -> Everything:
    """Where no transaction holds the three together, what has come to a provider since they were read comes next time."""
    providers = (
        await session.scalars(select(ProviderRecord).order_by(ProviderRecord.created_at, ProviderRecord.id))
    ).all()
    models = (await session.scalars(select(ProviderModel).order_by(ProviderModel.created_at, ProviderModel.id))).all()
    names = (await session.scalars(select(CatalogModel).order_by(CatalogModel.created_at, CatalogModel.id))).all()
    there = {row.id for row in providers}
    return Everything(providers, [row for row in models if row.provider_id in there], names)


async def add_missing(
    session: WriteSession,
    providers: Sequence[Mapping[str, object]],
    models: Sequence[Mapping[str, object]],
    names: Sequence[str],
) -> None:
    """Adds what is not there yet; of several processes that do so at once, one does. `models` name their provider's id."""
    insert = inserting(session)
    made = dict.fromkeys(("created_at", "updated_at"), now())
    if providers:
        rows = [{"id": new_id("prov"), "details": {}, **made, **row} for row in providers]
        await session.execute(insert(ProviderRecord).on_conflict_do_nothing(), rows)
    if models:
        # One that is deleted at this moment is waited for, and takes nothing with it.
        there = set(await session.scalars(select(ProviderRecord.id).with_for_update(read=True)))
        models = [row for row in models if row["provider_id"] in there]
    if models:
        rows = [{"id": new_id("pmdl"), "changes": {}, "tags": [], **made, **row} for row in models]
        await session.execute(insert(ProviderModel).on_conflict_do_nothing(), rows)
    if names:
        rows = [{"id": id, "changes": {}, "tags": [], "fallbacks": [], **made} for id in names]
        await session.execute(insert(CatalogModel).on_conflict_do_nothing(), rows)


async def provider(session: WriteSession, ref: str) -> ProviderRecord | None:
    """By its id or name, held until the transaction ends."""
    return await session.scalar(
        select(ProviderRecord).where((ProviderRecord.id == ref) | (ProviderRecord.name == ref)).with_for_update()
    )


async def delete_provider(session: WriteSession, row: ProviderRecord) -> None:
    """With all that it serves, and the names that nobody else serves then."""
    names = (await session.scalars(select(ProviderModel.name).where(ProviderModel.provider_id == row.id))).all()
    await session.delete(row)
    await session.flush()
    others = select(ProviderModel.name)
    await session.execute(delete(CatalogModel).where(CatalogModel.id.in_(names), CatalogModel.id.not_in(others)))


async def sealed_otherwise(session: ReadSession, mark: str) -> Sequence[ProviderRecord]:
    """The providers whose keys were not sealed with the secret of this mark."""
    query = select(ProviderRecord).where(~ProviderRecord.ciphertext.startswith(mark)).order_by(ProviderRecord.id)
    return (await session.scalars(query)).all()


async def reseal(session: WriteSession, id: str, old: str | None, new: str) -> None:
    """Changes nothing when somebody has changed it meanwhile."""
    await session.execute(
        update(ProviderRecord).where(ProviderRecord.id == id, ProviderRecord.ciphertext == old).values(ciphertext=new)
    )
    announce(session)


async def change_listed(
    session: WriteSession, changed: Sequence[tuple[str, Mapping[str, object]]], gone: Sequence[str]
) -> None:
    """What upstreams say now of these provider models, and which of them they no longer offer."""
    for id, listed in changed:
        await _update(session, [id], listed=dict(listed), is_listed=True)
    if gone:
        await _update(session, gone, is_listed=False)


async def set_pinned(session: WriteSession, name: str, *, is_pinned: bool) -> None:
    """Also of a name that has no row yet."""
    await add_missing(session, [], [], [name])
    await session.execute(
        update(CatalogModel)
        .where(CatalogModel.id == name)
        .values(is_pinned=is_pinned, updated_at=now())
        .execution_options(synchronize_session=False)
    )
    announce(session)


async def _update(session: WriteSession, ids: Sequence[str], **values: object) -> None:
    await session.execute(
        update(ProviderModel)
        .where(ProviderModel.id.in_(ids))
        .values(updated_at=now(), **values)
        .execution_options(synchronize_session=False)
    )
