"""How long a token takes from the upstream to whoever follows it, and what a thousand followers cost."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from functools import partial

from bench.audience import Plan, Result
from bench.contenders import BenchError, Contender
from bench.measures import CHAT, FOLLOW, carried_out, chat_body
from bench.section import Row, Section, attempted, lost
from bench.stage import Stage, Store, generations
from bench.wire import BROADCAST, FLOW, RELAY, TRICKLE

ALONE, MANY, CROWD = 1, 64, 1000
FLOW_RATE, TRICKLE_RATE = 50, 20
# Of what should be heard, so much at least; less shows that somebody could not keep up.
ENOUGH = 0.9
POLLED = 1.5

PlanFor = Callable[[int], AbstractContextManager[Plan]]

_NOTES = f"""\
From the moment when the upstream writes a token to its socket, in ms; {FLOW_RATE} tokens a second and generation, {ALONE} or {MANY} of them at once,
each followed by its own client. Bare: Starlette and aiohttp that pass on bytes, or frames. Elsewhere: the generation runs on
one worker and is followed on another; where Redis is, that wakes the follower, else it polls once a second. All servers share
a core; CPU is that of all of our processes together."""

_CROWD_NOTES = f"""\
{CROWD:,} clients follow one generation of {TRICKLE_RATE} tokens a second. Bare: one task reads the upstream and sends the same frame to each
socket. CPU is the server's for each token that reached a client. A client's lag includes the time in which the server sends
to those before it and the load generator reads what they got."""


def latencies(stage: Stage) -> Section:
    rows = [_latency(stage, "direct, SSE", _completions(stage.upstream))]
    with stage.bare() as plain:
        rows.append(_latency(stage, "bare, SSE", _completions(plain)))
        rows.append(_latency(stage, "bare, WebSocket", _bare_sockets(plain, RELAY)))
    with stage.workers(Store.SQLITE) as [ours]:
        rows.append(_latency(stage, "loquent, REST, not stored", _completions(ours)))
        rows.append(_latency(stage, "loquent, SQLite", _followers(FLOW, ours, ours)))
    rows += _on_two_workers(stage, Store.POSTGRESQL, is_polled=True)
    rows += _on_two_workers(stage, Store.REDIS, is_polled=False)
    columns = {f"{name} × {count}": 2 for count in (ALONE, MANY) for name in ("p50", "p99", "worst")}
    columns[f"CPU µs × {MANY}"] = 1
    return Section("latencies", "From the upstream's token to the follower, ms", columns, rows, _NOTES)


def _on_two_workers(stage: Stage, store: Store, *, is_polled: bool) -> list[Row]:
    case = f"loquent, {store.value}"
    try:
        with stage.workers(store, 2) as [first, second]:
            here, elsewhere = _followers(FLOW, first, first), _followers(FLOW, first, second, is_polled=is_polled)
            return [_latency(stage, case, here), _latency(stage, f"{case}, elsewhere", elsewhere)]
    except BenchError as error:
        return [lost(case, error)]


def _latency(stage: Stage, case: str, plan: PlanFor) -> Row:
    return attempted(case, partial(_measured, stage, case, plan))


def _measured(stage: Stage, case: str, plan_for: PlanFor) -> dict[str, float]:
    figures: dict[str, float] = {}
    for count, seconds in ((ALONE, 3.0), (MANY, 2.0)):
        with plan_for(count) as plan:
            plan.seconds = seconds
            found = listened(stage, plan, FLOW_RATE, f"{case} × {count}")
        figures |= {f"p50 × {count}": found.middle, f"p99 × {count}": found.tail, f"worst × {count}": found.worst}
        figures[f"CPU µs × {count}"] = sum(found.cpu) / found.tokens * 1e6
    return figures


def listened(stage: Stage, plan: Plan, rate: float, what: str) -> Result:
    """Raises BenchError, also when much less was heard than was said."""
    plan.seconds *= stage.pace
    found = carried_out("bench.audience", plan, Result, what)
    if found.errors:
        raise BenchError(f"{what}: {found.errors} errors, first: {found.first_error}")
    stage.note(what, f"{found.middle:,.2f} {found.tail:,.2f}")
    due = rate * plan.seconds * len(plan.asks)
    if found.tokens < ENOUGH * due:
        raise BenchError(f"{what}: only {found.tokens:,} of {due:,.0f} tokens were heard in time")
    return found


def _completions(who: Contender) -> PlanFor:
    body = chat_body(FLOW, is_streamed=True)

    def plan(count: int) -> AbstractContextManager[Plan]:
        return contextlib.nullcontext(Plan("stream", who.port, CHAT, [body] * count, who.token, watched=[who.pid]))

    return plan


def _bare_sockets(who: Contender, path: str) -> PlanFor:
    return lambda count: contextlib.nullcontext(Plan("socket", who.port, path, ["{}"] * count, watched=[who.pid]))


def _followers(model: str, home: Contender, follower: Contender, *, is_polled: bool = False) -> PlanFor:
    """Each follows its own generation, which runs at home."""

    @contextlib.contextmanager
    def plan(count: int) -> Generator[Plan]:
        with generations(home, model, count) as ids:
            made = Plan("socket", follower.port, "/graphql", [following(id) for id in ids], follower.token)
            made.watched = list({home.pid, follower.pid})
            made.patience = POLLED if is_polled else made.patience
            yield made

    return plan


def following(id: str) -> str:
    return json.dumps({"query": FOLLOW, "variables": {"id": id}})


def crowd(stage: Stage) -> Section:
    rows = []
    with stage.bare() as plain, _bare_sockets(plain, BROADCAST)(CROWD) as plan:
        rows.append(attempted("bare, WebSocket", partial(_crowd, stage, plan, "bare, WebSocket")))
    with stage.workers(Store.SQLITE) as [ours], generations(ours, TRICKLE, 1) as [id]:
        asks = [following(id)] * CROWD
        plan = Plan("socket", ours.port, "/graphql", asks, ours.token, watched=[ours.pid])
        rows.append(attempted("loquent, WebSocket", partial(_crowd, stage, plan, "loquent, WebSocket")))
    with stage.workers(Store.SQLITE) as [ours], generations(ours, TRICKLE, 1) as [id]:
        path = f"/v1/generations/{id}/events"
        plan = Plan("stream", ours.port, path, [""] * CROWD, ours.token, watched=[ours.pid])
        rows.append(attempted("loquent, SSE over REST", partial(_crowd, stage, plan, "loquent, SSE over REST")))
    columns = {"delivered /s": 0, "p50 ms": 1, "p99 ms": 1, "worst ms": 1, "CPU µs": 1, "CPU of bare": 2}
    return Section("crowd", f"{CROWD:,} followers of one generation", columns, _beside(rows), _CROWD_NOTES)


def _crowd(stage: Stage, plan: Plan, what: str) -> dict[str, float]:
    plan.seconds, plan.warm_up = 3.0, 1.0
    found = listened(stage, plan, TRICKLE_RATE, what)
    figures = {"delivered /s": found.tokens / found.seconds, "CPU µs": sum(found.cpu) / found.tokens * 1e6}
    return figures | {"p50 ms": found.middle, "p99 ms": found.tail, "worst ms": found.worst}


def _beside(rows: Sequence[Row]) -> list[Row]:
    """With what each costs as a multiple of the first."""
    cpu = rows[0].figures.get("CPU µs")
    return [
        Row(row.case, {**row.figures, "CPU of bare": row.figures["CPU µs"] / cpu}) if cpu and row.figures else row
        for row in rows
    ]
