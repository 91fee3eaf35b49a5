"""What runs now, for administrators: whose, of which model, how fast, what it has cost so far. Never what is said."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass

from db import accounts
from db.models import GenerationStatus, User
from engine.fleet import Activity, activity
from engine.supervisor import CANCEL_WAIT
from resolvers import audit, runs
from resolvers.access import ADMIN, require
from resolvers.call import Call
from resolvers.errors import NotFound

PERIOD = 1.0


@dataclass(frozen=True, slots=True)
class Active:
    """`user` is None once it is deleted; `speed` in tokens a second since the look before, or since its start."""

    activity: Activity
    user: User | None
    speed: float


async def follow(call: Call) -> AsyncGenerator[list[Active]]:
    """All that runs in all processes, the oldest first: at once, and then whenever a look each second finds a change.

    Without an end. Raises Unauthenticated, Forbidden.
    """
    require(call, ADMIN)
    return _looks(call)


async def _looks(call: Call) -> AsyncGenerator[list[Active]]:
    users: dict[str, User] = {}
    before: Mapping[str, Activity] | None = None
    while True:
        running = {one.id: one for one in _running(call)}
        if running != before:
            await _meet(call, users, running.values())
            seen = before or {}
            yield [Active(one, users.get(one.user_id), _speed(one, seen.get(id))) for id, one in running.items()]
            before = running
        await asyncio.sleep(PERIOD)


def _running(call: Call) -> Sequence[Activity]:
    services = call.services
    here = [activity(run) for run in services.supervisor.active()]
    return sorted([*here, *services.fleet.elsewhere()], key=lambda one: one.id)


async def _meet(call: Call, users: dict[str, User], running: Iterable[Activity]) -> None:
    """Looks up those whose runs are seen for the first time."""
    new = {one.user_id for one in running} - users.keys()
    if new:
        async with call.read() as session:
            users.update({user.id: user for user in await accounts.users_by_ids(session, new)})


def _speed(one: Activity, before: Activity | None) -> float:
    """In tokens a second."""
    tokens, seconds = one.tokens, one.seconds
    if before is not None and one.seconds > before.seconds:
        tokens, seconds = one.tokens - before.tokens, one.seconds - before.seconds
    return tokens / seconds if seconds else 0.0


async def stop(call: Call, id: str) -> GenerationStatus:
    """Stops anybody's run, in whichever process; how it has ended. Raises Unauthenticated, Forbidden, NotFound."""
    require(call, ADMIN)
    services = call.services
    found = next((one for one in _running(call) if one.id == id), None)
    if found is None:
        raise NotFound("running generation", id, field="id")
    async with call.write() as session:
        audit.record(session, call, "generation.stop", id, user_id=found.user_id, model=found.model)
    run = services.supervisor.find(id)
    if run is not None:
        await services.supervisor.cancel(id)
        return run.status
    await services.fleet.cancel(id, "")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CANCEL_WAIT):
            await services.fleet.obeyed(id)
    [ended] = await runs.of_user(call, found.user_id, [id])
    return GenerationStatus(ended.status) if ended is not None else GenerationStatus.RUNNING
