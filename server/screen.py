"""How an answer appears in a terminal: whole paragraphs stay where they are, and only the one that grows is drawn again.

Where nobody looks (a pipe, a file) it is the text itself, as it comes.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment, Segments

_FENCES = ("```", "~~~")
_A_SECOND = 12


class _Tail:
    """The end of a text, as many lines as there is room for: what is taller than the screen cannot be drawn again."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(Markdown(self._text), options, pad=False)
        most = max(console.height - 2, 1)
        for line in lines[-most:]:
            yield Segments([*line, Segment.line()])


class Screen:
    """Answers go to the output, remarks and complaints to the error stream."""

    def __init__(self, output: Console | None = None, errors: Console | None = None) -> None:
        self._output = output or Console()
        self._errors = errors or Console(stderr=True)
        self._is_plain = not self._output.is_terminal
        self._live: Live | None = None
        self._tail = ""
        self._has_said = False
        self._remarks: list[tuple[str, str]] = []

    @contextlib.contextmanager
    def answer(self) -> Generator[None]:
        """What is added within the block is one answer."""
        self._tail, self._has_said = "", False
        try:
            if self._is_plain:
                yield
            else:
                with Live(console=self._output, refresh_per_second=_A_SECOND, transient=True) as self._live:
                    yield
        finally:
            self._live = None
            self._end()

    def add(self, text: str) -> None:
        self._has_said = True
        if self._is_plain:
            sys.stdout.write(text)
            sys.stdout.flush()
            return
        self._tail += text
        end = settled(self._tail)
        if end:
            self._output.print(Markdown(self._tail[:end]))
            # Between two blocks of one text Markdown leaves a line.
            self._output.print()
            self._tail = self._tail[end:]
        if self._live is not None:
            self._live.update(_Tail(self._tail))

    def replace(self, text: str) -> None:
        """Of an answer whose beginning can only be told in one piece."""
        if not self._has_said:
            self.add(text)

    def note(self, text: str) -> None:
        self._remark(text, "dim")

    def complain(self, text: str) -> None:
        self._remark(text, "red")

    def _remark(self, text: str, style: str) -> None:
        if self._live is not None:
            # In the midst of what is drawn again and again it would be drawn over.
            self._remarks.append((text, style))
        else:
            self._errors.print(text, style=style, markup=False, highlight=False)

    def _end(self) -> None:
        if self._is_plain and self._has_said:
            sys.stdout.write("\n")
            sys.stdout.flush()
        elif self._tail:
            self._output.print(Markdown(self._tail))
        remarks, self._remarks = self._remarks, []
        for text, style in remarks:
            self._remark(text, style)


def settled(text: str) -> int:
    """The end of the last block of Markdown that nothing which follows can change: after an empty line, outside of code."""
    end = position = 0
    is_code = False
    for line in text.splitlines(keepends=True):
        position += len(line)
        if line.lstrip().startswith(_FENCES):
            is_code = not is_code
        elif not line.strip() and line.endswith("\n") and not is_code:
            end = position
    return end if text[:end].strip() else 0
