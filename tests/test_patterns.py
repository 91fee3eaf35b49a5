"""Regular expressions read what anybody sends: none may take time by the square of a text's length."""

from __future__ import annotations

import importlib
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("server", "graph", "rest_compat", "resolvers", "engine", "db")
LENGTH = 8_000
# By the square it would be tenths of a second at the least, in proportion a thousandth.
ALLOWED = 0.05
PIECES = (
    "a", "a@", "a@a.", "@.", "[", "[](", "1", "(", "1+", " ", "\n", "my ", "i am ", "count ", "count to ", '"', '-"', '"a ',
    "`", "<think>", "-", "\\", "data:", "data:a/", "x;", "_1", "www.", "http://", '{"type"', "0.", "é", "a b ", "/", "&", "^",
)  # fmt: skip
BOUNDED = {
    "engine.providers.demo._WORD": "reads the demonstration's own answers",
    "engine.providers.demo_tools._SUM": "reads a thousand characters",
    "engine.tools.calculator._TOKEN": "is only asked to match where the last one ended",
    "resolvers.intake._ARCHIVE": "is only asked to match at the beginning of a file",
}


def _patterns() -> Iterator[tuple[str, re.Pattern[str] | re.Pattern[bytes]]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "migrations" in path.parts or "re.compile" not in path.read_text("utf-8"):
                continue
            module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
            for name, value in vars(module).items():
                if isinstance(value, re.Pattern):
                    yield f"{module.__name__}.{name}", value


PATTERNS = dict(_patterns())


def _stop(number: int, frame: FrameType | None) -> None:
    raise TimeoutError


def _seconds(pattern: re.Pattern[str] | re.Pattern[bytes], text: str) -> float:
    """Of CPU, to find all there is."""
    before = signal.signal(signal.SIGVTALRM, _stop)
    began = time.process_time()
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, 10 * ALLOWED)
        for _ in pattern.finditer(text.encode() if isinstance(pattern.pattern, bytes) else text):  # type: ignore[arg-type]
            pass
    except TimeoutError:
        pass
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    return time.process_time() - began


def _worst(pattern: re.Pattern[str] | re.Pattern[bytes]) -> tuple[float, str]:
    texts = {piece: piece * (LENGTH // len(piece)) + "\0" for piece in PIECES}
    return max((_seconds(pattern, text), piece) for piece, text in texts.items())


@pytest.mark.parametrize("name", sorted(PATTERNS.keys() - BOUNDED.keys()))
def test_a_pattern_takes_time_in_proportion_to_a_text(name: str) -> None:
    seconds, piece = _worst(PATTERNS[name])
    assert seconds < ALLOWED, f"{LENGTH} characters of {piece!r} take {seconds:.3f} s"


def test_a_pattern_that_takes_longer_is_found() -> None:
    assert PATTERNS.keys() >= BOUNDED.keys()
    assert _seconds(re.compile(r"\S+@\S+\.\S+"), "a" * LENGTH) > ALLOWED
