"""Wake-ups: a topic and a number, never the news itself. Whoever is woken reads the log from where it stands."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator
from contextlib import AbstractContextManager
from typing import Protocol


class Watch(Protocol):
    """One listener on one topic."""

    @property
    def number(self) -> int:
        """The greatest number heard since the watch began; 0 when none was."""
        ...

    async def beyond(self, number: int) -> None:
        """Returns once a number greater than this one has been heard, at once if it already was."""
        ...


class Hub(Protocol):
    """A watch that began before a wake-up hears it; wake-ups may be merged but the greatest number always arrives."""

    def wake(self, topic: str, number: int) -> None: ...

    def watch(self, topic: str) -> AbstractContextManager[Watch]: ...


class _LocalWatch:
    __slots__ = ("_waiter", "number")

    def __init__(self) -> None:
        self.number = 0
        self._waiter: asyncio.Future[None] | None = None

    def hear(self, number: int) -> None:
        if number > self.number:
            self.number = number
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)

    async def beyond(self, number: int) -> None:
        while self.number <= number:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None


class LocalHub:
    """The hub of a single process."""

    def __init__(self) -> None:
        self._watches: dict[str, set[_LocalWatch]] = {}

    def wake(self, topic: str, number: int) -> None:
        for watch in self._watches.get(topic, ()):
            watch.hear(number)

    @contextlib.contextmanager
    def watch(self, topic: str) -> Generator[_LocalWatch]:
        watch = _LocalWatch()
        watches = self._watches.setdefault(topic, set())
        watches.add(watch)
        try:
            yield watch
        finally:
            watches.discard(watch)
            if not watches and self._watches.get(topic) is watches:
                del self._watches[topic]

    @property
    def topics(self) -> int:
        """How many topics are watched now."""
        return len(self._watches)
