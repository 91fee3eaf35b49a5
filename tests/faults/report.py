"""What came of a promise that was put to the test: figures, and what did not hold."""

from __future__ import annotations

from dataclasses import dataclass, field

_SHOWN = 20


@dataclass
class Report:
    """Printed as one line. A promise is kept when nothing stands in `faults`."""

    promise: str
    topology: str
    seed: int
    figures: dict[str, float | int | str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def is_kept(self) -> bool:
        return not self.faults

    def check(self, holds: object, fault: str) -> None:
        if not holds:
            self.faults.append(fault)

    def count(self, name: str, by: int = 1) -> None:
        self.figures[name] = int(self.figures.get(name, 0)) + by

    def worst(self, name: str, value: float) -> None:
        """Keeps the greatest; in seconds, rounded to milliseconds."""
        self.figures[name] = max(float(self.figures.get(name, 0.0)), round(value, 3))

    def __str__(self) -> str:
        figures = " ".join(f"{name}={value}" for name, value in self.figures.items())
        verdict = "PASS" if self.is_kept else "FAIL"
        line = f"{self.promise} {self.topology} seed={self.seed} {figures} {verdict}"
        more = [f"  and {len(self.faults) - _SHOWN} more"] if len(self.faults) > _SHOWN else []
        return "\n".join([line, *(f"  {fault}" for fault in self.faults[:_SHOWN]), *more])
