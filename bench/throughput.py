"""How many tokens a second go through a subscription, and what it costs to keep them."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from bench.contenders import Contender, Missing, scratch
from bench.load import Plan, Result
from bench.measures import loaded, sockets, streams, word_cpu, word_rate
from bench.node import peer
from bench.section import Row, Section, attempted
from bench.stage import Stage, Store

# From this share of the ceiling on, a figure says more about the load generator than about the server.
NEAR_CEILING = 0.8
STREAMS = 64

Values = dict[str, list[float]]
PlanOf = Callable[[Contender], Plan]

_NOTES = """\
direct  the fake upstream itself sends the frames, on the load generator's core: the ceiling of what can be measured here
bare    a Starlette socket that sends ready-made frames; node: graphql-ws on Node, which executes the document for each event.
        Both one token in each turn of the event loop (live), or all in one turn (replayed); neither signs in, stores, counts
loquent live: each client starts a generation by a mutation and follows it while it is committed to SQLite; replayed: all
        follow one that has ended. Live × 1 shows how long one generation waits for its commits
A ratio above 1 is better than the other. * is near the ceiling."""

_DURABLE_NOTES = f"""\
{STREAMS} clients, the same upstream tokens: as a streamed completion over REST, which leaves one row in the ledger, and as a
generation that is stored event by event, followed over GraphQL. CPU is that of our process, without PostgreSQL's own.
Full: as fast as it goes. Paced: 50 tokens a second and client, so that each is sent by itself."""


def subscriptions(stage: Stage) -> Section:
    # Long enough for a live client to come to a second generation.
    cases = {f"live × {n}": sockets(n, is_live=True, seconds=length) for n, length in ((1, 0.5), (32, 1.0), (128, 2.0))}
    cases |= {f"replayed × {n}": sockets(n, is_live=False, seconds=0.5) for n in (1, 32, 128)}
    lost: list[Row] = []
    with contextlib.ExitStack() as stack:
        running = [stage.upstream, stack.enter_context(stage.bare())]
        try:
            running.append(stack.enter_context(peer(stack.enter_context(scratch()))))
        except Missing as error:
            lost.append(Row("node", missing=str(error)))
        running += stack.enter_context(stage.workers(Store.SQLITE))
        values = _rounds(stage, cases, running)
    rows = [_row(case, found) for case, found in values.items()]
    columns = {"direct": 0, "bare": 0, "node": 0, "loquent": 0, "loquent / bare": 2, "loquent / node": 2}
    return Section("subscriptions", "Subscription tokens a second", columns, rows + lost, _NOTES)


def _rounds(stage: Stage, cases: Mapping[str, PlanOf], running: Sequence[Contender]) -> dict[str, Values]:
    """All values of all rounds. Contenders take turns within each case; the ceiling is measured once."""
    values: dict[str, Values] = {case: {} for case in cases}
    for number in range(stage.rounds):
        for case, plan in cases.items():
            for who in running:
                if number and who is stage.upstream:
                    continue
                value = word_rate(loaded(plan(who), stage.pace, f"{case}, {who.name}"))
                values[case].setdefault(who.name, []).append(value)
                stage.settle(who)
                stage.note(f"{number + 1}/{stage.rounds}  {case}, {who.name}", f"{value:,.0f} /s")
    return values


def _row(case: str, values: Values) -> Row:
    figures = {name: statistics.median(found) for name, found in values.items()}
    ours = figures["loquent"]
    ratios = {f"loquent / {name}": ours / figures[name] for name in ("bare", "node") if name in figures}
    most = max(value for name, value in figures.items() if name != "direct")
    is_limited = most > NEAR_CEILING * figures["direct"]
    return Row(f"{case} *" if is_limited else case, figures | ratios)


def durability(stage: Stage) -> Section:
    rows = [attempted(store.value, partial(_durability, stage, store)) for store in (Store.SQLITE, Store.POSTGRESQL)]
    columns = {"REST /s": 0, "stored /s": 0, "stored / REST": 2, "REST CPU µs": 1, "stored CPU µs": 1}
    columns |= {"paced REST CPU µs": 1, "paced stored CPU µs": 1}
    return Section("durability", "A stored generation beside a stateless completion", columns, rows, _DURABLE_NOTES)


def _durability(stage: Stage, store: Store) -> dict[str, float]:
    full = {"REST": streams(STREAMS, 500, 0, 0.6), "stored": sockets(STREAMS, is_live=True, seconds=2.0)}
    paced = {
        "paced REST": streams(STREAMS, 200, 20, 1.2),
        "paced stored": sockets(STREAMS, is_live=True, seconds=1.2, words=200, delay=20),
    }
    values: Values = {}
    with stage.workers(store) as [who]:
        for number in range(stage.rounds):
            for name, plan in (full | paced).items():
                found = loaded(plan(who), stage.pace, f"{name}, {store.value}")
                stage.settle(who)
                stage.note(f"{number + 1}/{stage.rounds}  {name}, {store.value}", f"{word_cpu(found):,.1f} µs")
                for figure, value in _figures(name, found).items():
                    values.setdefault(figure, []).append(value)
    figures = {name: statistics.median(found) for name, found in values.items()}
    return figures | {"stored / REST": figures["stored /s"] / figures["REST /s"]}


def _figures(name: str, found: Result) -> dict[str, float]:
    return {f"{name} /s": word_rate(found), f"{name} CPU µs": word_cpu(found)}
