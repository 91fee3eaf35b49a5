"""One table of figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from bench.contenders import BenchError, Missing


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """`missing` says why there are no figures, or not all; `is_broken` when that is not for want of a part."""

    case: str
    figures: Mapping[str, float] = dataclasses.field(default_factory=dict)
    missing: str = ""
    is_broken: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """`columns` are the names of the figures and how many digits of each are shown. `notes` say how to read it."""

    key: str
    title: str
    columns: Mapping[str, int]
    rows: Sequence[Row]
    notes: str

    def show(self, console: Console) -> None:
        table = Table(title=self.title, title_justify="left")
        table.add_column("")
        for name in self.columns:
            table.add_column(name, justify="right")
        for row in self.rows:
            table.add_row(row.case, *(self._cell(row, name) for name in self.columns))
        console.print(table)
        for row in self.rows:
            if row.missing:
                console.print(f"{row.case}: {row.missing}", style="bold red", markup=False)
        console.print(self.notes, markup=False, highlight=False)
        console.print()

    def _cell(self, row: Row, name: str) -> str:
        figure = row.figures.get(name)
        return "–" if figure is None else f"{figure:,.{self.columns[name]}f}"


def attempted(case: str, figures: Callable[[], Mapping[str, float]]) -> Row:
    """A row, with figures or with the reason why there are none."""
    try:
        return Row(case, figures())
    except BenchError as error:
        return lost(case, error)


def lost(case: str, error: BenchError) -> Row:
    return Row(case, missing=str(error), is_broken=not isinstance(error, Missing))
