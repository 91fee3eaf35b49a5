"""A user has so many places for runs, and every run gives its place back once, however it ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import anyio
import pytest

from db.base import Database, new_id
from engine.events import Completed, ErrorCode, TextDelta
from engine.hub import LocalHub
from engine.log import EventLog
from engine.providers.base import ChatRequest, Chunk, ModelInfo, Provider, UpstreamError
from engine.providers.demo import DemoProvider
from engine.run import Run, Spec
from engine.supervisor import Supervisor

pytestmark = pytest.mark.anyio

USER = "user_1"


class Broken:
    name = "broken"
    origin = ""

    async def models(self) -> Sequence[ModelInfo]:
        return []

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk]:
        yield Chunk(deltas=[TextDelta(text="so far")])
        raise ZeroDivisionError

    async def close(self) -> None: ...


@pytest.fixture
async def supervisor(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Supervisor]:
    """Its runs are ephemeral, so that its database is never opened."""
    database = Database(f"sqlite:///{tmp_path / 'loquent.db'}")
    log = EventLog(database, LocalHub())
    supervisor = Supervisor(log)
    yield supervisor
    await supervisor.close()
    await database.close()


def start(supervisor: Supervisor, provider: Provider) -> Run:
    request = ChatRequest("demo", [{"role": "user", "content": "hello"}])
    spec = Spec(new_id("gen"), USER, "demo", provider, request, is_durable=False)
    assert supervisor.hold(USER, spec.id, 1)
    assert not supervisor.hold(USER, "gen_other", 1)
    return supervisor.start(spec)


def demo(*script: object) -> DemoProvider:
    provider = DemoProvider(pace=0)
    provider.enqueue(*script)  # type: ignore[arg-type]
    return provider


async def nothing(supervisor: Supervisor, run: Run) -> None: ...


async def cancel(supervisor: Supervisor, run: Run) -> None:
    await supervisor.cancel(run.spec.id)
    await supervisor.cancel(run.spec.id)


async def close(supervisor: Supervisor, run: Run) -> None:
    await supervisor.close()


async def kill(supervisor: Supervisor, run: Run) -> None:
    assert run.task is not None
    run.task.cancel()


ENDS: dict[str, tuple[Callable[[], Provider], Callable[[Supervisor, Run], Awaitable[None]]]] = {
    "completed": (lambda: demo("a"), nothing),
    "failed": (lambda: demo(UpstreamError(ErrorCode.UNAVAILABLE, "away")), nothing),
    "broken": (Broken, nothing),
    "cancelled": (lambda: demo("a", asyncio.Event()), cancel),
    "server stopped": (lambda: demo("a", asyncio.Event()), close),
    "task killed": (lambda: demo("a", asyncio.Event()), kill),
}


@pytest.mark.parametrize("end", ENDS)
async def test_run_gives_its_place_back_however_it_ends(supervisor: Supervisor, end: str) -> None:
    provider, act = ENDS[end]
    run = start(supervisor, provider())
    with anyio.fail_after(5):
        await act(supervisor, run)
        assert run.task is not None
        await asyncio.wait((run.task,))
    # Two more than there are places for: what was given back twice would let the second in.
    assert supervisor.hold(USER, "gen_next", 1)
    assert not supervisor.hold(USER, "gen_after", 1)
    supervisor.let_go(USER, "gen_next")
    assert supervisor._held == {}


async def test_place_is_free_as_soon_as_anybody_can_see_the_end(supervisor: Supervisor) -> None:
    run = start(supervisor, demo("a", "b"))
    with anyio.fail_after(5):
        async with contextlib.aclosing(supervisor.follow(run.spec.id, 0)) as batches:
            ends = [supervisor.hold(USER, "gen_next", 1) async for batch in batches if isinstance(batch[-1], Completed)]
    assert ends == [True]


async def test_places_of_one_user_are_no_other_users(supervisor: Supervisor) -> None:
    assert [supervisor.hold("user_a", f"gen_{number}", 2) for number in range(3)] == [True, True, False]
    assert supervisor.hold("user_b", "gen_b", 2)
    supervisor.let_go("user_a", "gen_0")
    supervisor.let_go("user_a", "gen_0")
    supervisor.let_go("user_c", "gen_0")
    assert [supervisor.hold("user_a", f"gen_{number}", 2) for number in (3, 4)] == [True, False]


async def test_without_a_most_everybody_has_a_place(supervisor: Supervisor) -> None:
    assert all(supervisor.hold("user_a", f"gen_{number}", 0) for number in range(100))
