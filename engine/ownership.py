"""Whose a run is while nobody looks: what becomes of it when its last viewer leaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Generator
from enum import StrEnum

# In seconds. Whoever has gone from here to another process is known of only after a while.
ELSEWHERE_GRACE = 3.0


class OnDisconnect(StrEnum):
    """What becomes of a generation when its last viewer leaves."""

    CONTINUE = "continue"
    CANCEL = "cancel"
    CANCEL_AFTER = "cancel_after"


class Ownership:
    """Counts the viewers of one run, and calls `stop` when there are none any more and that is what was agreed.

    `grace` in seconds, for CANCEL_AFTER. `is_shared`: it may be viewed from other processes too.
    """

    __slots__ = ("_elsewhere", "_grace", "_here", "_is_over", "_stop", "_timer", "on_disconnect")

    def __init__(self, on_disconnect: OnDisconnect, grace: float, stop: Callable[[], None], *, is_shared: bool) -> None:
        self.on_disconnect = on_disconnect
        self._grace = grace if on_disconnect is OnDisconnect.CANCEL_AFTER else 0.0
        if is_shared:
            self._grace = max(self._grace, ELSEWHERE_GRACE)
        self._stop = stop
        self._here = 0
        self._elsewhere = 0
        self._is_over = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def viewers(self) -> int:
        return self._here + self._elsewhere

    @contextlib.contextmanager
    def viewed(self) -> Generator[None]:
        """Counts a viewer in this process."""
        self._here += 1
        self._stay()
        try:
            yield
        finally:
            self._here -= 1
            self._leave()

    def view_elsewhere(self, count: int) -> None:
        """How many view the run from other processes now."""
        had, self._elsewhere = self._elsewhere, count
        if count:
            self._stay()
        elif had:
            self._leave()

    def close(self) -> None:
        """The run has ended: whoever leaves now leaves nothing behind."""
        self._is_over = True
        self._stay()

    def _stay(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _leave(self) -> None:
        if self._is_over or self.viewers or self.on_disconnect is OnDisconnect.CONTINUE:
            return
        if self._grace:
            self._stay()
            self._timer = asyncio.get_running_loop().call_later(self._grace, self._stop)
        else:
            self._stop()
