"""Wake-ups: a topic and a number, never the news itself. Whoever is woken reads the log from where it stands."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator
from contextlib import AbstractContextManager
from typing import Protocol

# How often those who follow what other processes do look for themselves although a hub that is connected tells them.
SAFETY = 10.0


class Watch(Protocol):
    """One listener on one topic."""

    @property
    def number(self) -> int:
        """The greatest number heard since the watch began; 0 when none was."""
        ...

    async def beyond(self, number: int) -> None:
        """Returns once a number greater than this one has been heard, at once if it already was.

        It may return early although none was, when something may have been missed or has no number: the watcher must then
        look for itself.
        """
        ...


class Hub(Protocol):
    """A watch that began before a wake-up hears it; wake-ups may be merged but the greatest number always arrives.

    While `is_connected` the wake-ups of other processes are heard as well. Where it is not, whoever follows what they do
    looks for itself once a second. Nobody need wait for it to turn: all watches are nudged whenever it does.
    """

    @property
    def is_connected(self) -> bool: ...

    def wake(self, topic: str, number: int, *, is_local: bool = False) -> None:
        """`is_local`: for what other processes cannot read, or find for themselves. They are not told of it."""
        ...

    def nudge(self, topic: str) -> None:
        """Makes all watches of the topic look for themselves: for news without numbers, or whose numbers many give."""
        ...

    def watch(self, topic: str) -> AbstractContextManager[Watch]: ...


class _LocalWatch:
    __slots__ = ("_is_nudged", "_waiter", "number")

    def __init__(self) -> None:
        self.number = 0
        self._is_nudged = False
        self._waiter: asyncio.Future[None] | None = None

    def hear(self, number: int) -> None:
        if number > self.number:
            self.number = number
            self._rouse()

    def nudge(self) -> None:
        self._is_nudged = True
        self._rouse()

    def _rouse(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def beyond(self, number: int) -> None:
        while self.number <= number and not self._is_nudged:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._is_nudged = False


class LocalHub:
    """The hub of a single process."""

    is_connected = False

    def __init__(self) -> None:
        self._watches: dict[str, set[_LocalWatch]] = {}

    def wake(self, topic: str, number: int, *, is_local: bool = False) -> None:
        for watch in self._watches.get(topic, ()):
            watch.hear(number)

    def nudge(self, topic: str) -> None:
        for watch in self._watches.get(topic, ()):
            watch.nudge()

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

    def is_watched(self, topic: str) -> bool:
        return topic in self._watches

    @property
    def listeners(self) -> int:
        """How many watches there are now."""
        return sum(map(len, self._watches.values()))

    @property
    def topics(self) -> int:
        """How many topics are watched now."""
        return len(self._watches)
