"""`python -m bench`: our server beside a bare one, in one run, as ratios. See `--help`."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import auth, litellm, start
from bench.contenders import BenchError, Contender, Missing, contenders, scratch
from bench.measures import MEASURES, Measure, measure

# From this share of the ceiling on, a figure says more about the load generator than about the server.
NEAR_CEILING = 0.8
STARTS, FEWEST_STARTS = 5, 2

_NOTES = """\
direct   the fake upstream itself, on the load generator's core: the ceiling of what this benchmark can measure
bare     Starlette and aiohttp that pass bytes on; for subscriptions a Starlette socket that sends ready-made frames,
         one in each turn of the event loop (live) or all in one turn (replayed)
loquent  `loquent serve` on SQLite, with sign-in, limits and accounts
routed   the same with two offers of each model, with weights
live     each client starts a generation (500 tokens, no delay) by a mutation and follows it: through the log, committed;
         × 1 shows how long one generation waits for its commits, not how fast tokens can flow
replayed a generation that has just ended is followed again and again: from memory
Latencies are what is added to direct. A ratio above 1 is better than bare. * is near the ceiling, so bare may be faster."""


def main() -> int:
    options = _options()
    chosen = [what for what in MEASURES if not options.only or what.group in options.only]
    if not options.only or auth.GROUP in options.only:
        auth.show()
    console = Console(stderr=True)
    try:
        if not options.only or start.GROUP in options.only:
            _show_starts(options, console)
        if not chosen:
            return 0
        rounds, pace = (1, 0.5) if options.quick else (options.rounds, 1.0)
        with scratch() as folder, contenders(folder) as running:
            values = _rounds(chosen, running, rounds, pace, console)
            cold = {who.name: round(who.cold, 3) for who in running}
    except BenchError as error:
        console.print(str(error), style="red", markup=False)
        return 1
    rows = [_row(what, values[what.name]) for what in chosen]
    if options.json is not None:
        options.json.write_text(json.dumps({"rounds": rounds, "cold_start": cold, "rows": rows}, indent=1) + "\n")
    _show(rows, rounds)
    return 0


def _show_starts(options: argparse.Namespace, console: Console) -> None:
    if options.install:
        try:
            litellm.install()
        except Missing as error:
            console.print(str(error), style="red", markup=False)
    start.measured(FEWEST_STARTS if options.quick else STARTS, console).show(Console(width=140))


def _options() -> argparse.Namespace:
    groups = [*dict.fromkeys(what.group for what in MEASURES), auth.GROUP, start.GROUP]
    parser = argparse.ArgumentParser(prog="python -m bench", description=_NOTES, formatter_class=_Plain)
    parser.add_argument("--only", nargs="+", choices=groups, metavar="GROUP", help=f"of: {', '.join(groups)}")
    parser.add_argument("--quick", action="store_true", help="one short round: shows that it works, not how fast")
    parser.add_argument(
        "--install", action="store_true", help=f"bring LiteLLM by pip into {litellm.place()}, for `start`"
    )
    parser.add_argument("--rounds", type=int, default=3, choices=range(1, 10), metavar="N", help="3 where not given")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    return parser.parse_args()


class _Plain(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines as they are."""


def _rounds(
    chosen: Sequence[Measure], running: Sequence[Contender], rounds: int, pace: float, console: Console
) -> dict[str, dict[str, list[float]]]:
    """All values of all rounds. Contenders take turns within each measure; the ceiling is measured once."""
    values: dict[str, dict[str, list[float]]] = {what.name: {} for what in chosen}
    for number in range(rounds):
        for what in chosen:
            for who in running:
                if number and who.name == "direct":
                    continue
                value = measure(what, who, pace)
                values[what.name].setdefault(who.name, []).append(value)
                console.print(f"{number + 1}/{rounds}  {what.name:34} {who.name:8} {value:12,.1f} {what.unit}")
    return values


def _row(what: Measure, values: Mapping[str, Sequence[float]]) -> dict[str, object]:
    direct, bare, ours, routed = (statistics.median(values[name]) for name in ("direct", "bare", "loquent", "routed"))
    if what.kind == "latency":
        bare, ours, routed = bare - direct, ours - direct, routed - direct
    ratios = [one / bare if what.kind == "rate" else bare / one for one in (ours, routed)]
    is_limited = what.kind == "rate" and max(bare, ours) > NEAR_CEILING * direct
    row = {"measure": what.name, "unit": what.unit, "direct": direct, "bare": bare, "loquent": ours, "routed": routed}
    return row | {"ratio": ratios[0], "routed ratio": ratios[1], "is_near_ceiling": is_limited, "values": values}


def _show(rows: Sequence[Mapping[str, object]], rounds: int) -> None:
    table = Table(title=f"Medians of {rounds} rounds", title_justify="left")
    for name in ("measure", "unit", "direct", "bare", "loquent", "routed", "ratio", "routed ratio"):
        table.add_column(name, justify="left" if name in ("measure", "unit") else "right")
    for row in rows:
        figures = [f"{row[name]:,.0f}" for name in ("direct", "bare", "loquent", "routed")]
        mark = "*" if row["is_near_ceiling"] else " "
        table.add_row(
            str(row["measure"]),
            str(row["unit"]),
            *figures,
            f"{row['ratio']:.2f}{mark}",
            f"{row['routed ratio']:.2f}{mark}",
        )
    Console(width=130).print(table)
    print(_NOTES)


if __name__ == "__main__":
    sys.exit(main())
