"""What a subscription costs that has nothing to say, and a server that has nothing to do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from functools import partial

import msgspec
import psutil

from bench.audience import Plan, Result
from bench.contenders import BenchError, Contender, scratch
from bench.lag import following
from bench.measures import carried_out
from bench.node import peer
from bench.section import Section, attempted
from bench.stage import Stage, Store, generations
from bench.wire import QUIET, SILENT

SOCKETS = 1000
# The first ones bring what all of them need.
FIRST = 10

Start = Callable[[], AbstractContextManager[Contender]]

_NOTES = f"""\
A process of its own each. Resting: resident memory after the start. Each: what {SOCKETS:,} sockets with one subscription that says
nothing add to it, divided by their number; ours are signed in and follow one generation whose model is silent."""


def memory(stage: Stage) -> Section:
    starts: dict[str, Start] = {"bare": stage.bare, "node": _node, "loquent": lambda: _ours(stage)}
    rows = [attempted(name, partial(_measured, stage, name, start)) for name, start in starts.items()]
    columns = {"cold start s": 2, "resting MB": 1, "each KB": 1}
    return Section("memory", f"Memory of {SOCKETS:,} idle subscriptions", columns, rows, _NOTES)


@contextlib.contextmanager
def _node() -> Generator[Contender]:
    with scratch() as folder, peer(folder) as running:
        yield running


@contextlib.contextmanager
def _ours(stage: Stage) -> Generator[Contender]:
    with stage.workers(Store.SQLITE) as [who]:
        yield who


def _measured(stage: Stage, name: str, start: Start) -> dict[str, float]:
    with start() as who:
        resting = psutil.Process(who.pid).memory_info().rss
        with _asked(who) as plan:
            _grown(msgspec.structs.replace(plan, asks=plan.asks * FIRST), name)
            before, after = _grown(msgspec.structs.replace(plan, asks=plan.asks * SOCKETS), name)
    each = (after - before) / SOCKETS / 1024
    stage.note(f"idle subscription, {name}", f"{each:,.1f} KB")
    return {"cold start s": who.cold, "resting MB": resting / 1e6, "each KB": each}


def _grown(plan: Plan, name: str) -> tuple[int, int]:
    found = carried_out("bench.audience", plan, Result, name)
    if found.errors:
        raise BenchError(f"{name}: {found.errors} errors, first: {found.first_error}")
    return found.memory[0]


@contextlib.contextmanager
def _asked(who: Contender) -> Generator[Plan]:
    """For one socket."""
    plan = Plan("socket", who.port, QUIET, ["{}"], who.token, '"pong"', warm_up=1.0, seconds=0.1, watched=[who.pid])
    plan.patience = 0.0
    if not who.token:
        plan.asks = [following("idle")]
        yield plan
        return
    plan.path, plan.seated = "/graphql", "GenerationStarted"
    with generations(who, SILENT, 1) as [id]:
        plan.asks = [following(id)]
        yield plan
