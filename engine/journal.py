"""The log of one generation that runs in this process, while it is written."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

from db.base import WriteSession
from engine.events import GenerationEvent, Terminal, is_terminal
from engine.ring import Batch, Ring

Settle = Callable[[WriteSession], Awaitable[None]]


class Journal:
    """Numbers are given here, and only here. `notice` is called when something is pending, `drained` waits until it is not."""

    __slots__ = ("_done", "_drained", "_notice", "attempt", "generation_id", "is_durable", "is_lost", "is_parting", "last_seq",
                 "on_lost", "pending", "ring", "settle", "usage")  # fmt: skip

    def __init__(
        self,
        generation_id: str,
        attempt: int,
        notice: Callable[[Journal], None],
        drained: Callable[[Journal], Awaitable[None]],
        *,
        is_durable: bool,
        last: int = 0,
    ) -> None:
        self.generation_id = generation_id
        self.attempt = attempt
        self.is_durable = is_durable
        self.is_lost = False
        self.is_parting = False
        self.last_seq = last
        self.pending: list[GenerationEvent] = []
        self.ring = Ring(is_bounded=is_durable, last=last)
        self.settle: Settle | None = None
        self.usage: Mapping[str, object] | None = None
        self.on_lost: Callable[[], None] | None = None
        self._notice = notice
        self._drained = drained
        self._done: asyncio.Future[None] | None = None

    def append(self, events: Iterable[GenerationEvent]) -> None:
        """Numbers the events and hands them to the writer; they are visible once committed."""
        number = self.last_seq
        pending = self.pending
        for event in events:
            number += 1
            event.seq = number
            pending.append(event)
        self.last_seq = number
        self._notice(self)

    async def finish(
        self, event: Terminal, settle: Settle | None = None, usage: Mapping[str, object] | None = None
    ) -> None:
        """Appends the last event and returns once it is committed; at once when the journal is lost.

        In the same transaction, `settle` writes the end of the generation and `usage` becomes its row of the ledger.
        """
        await self._close((event,), settle, usage)

    async def part(self, events: Iterable[GenerationEvent], settle: Settle, usage: Mapping[str, object]) -> None:
        """Appends the last events of this attempt, which another one may follow; else as `finish`."""
        self.is_parting = True
        await self._close(events, settle, usage)

    def is_last(self, event: GenerationEvent) -> bool:
        """Whether nothing follows it in this journal."""
        return is_terminal(event) or (self.is_parting and event.seq == self.last_seq)

    async def _close(
        self, events: Iterable[GenerationEvent], settle: Settle | None, usage: Mapping[str, object] | None
    ) -> None:
        self.settle = settle
        self.usage = usage
        self._done = asyncio.get_running_loop().create_future()
        self.append(events)
        if not self.is_lost:
            await self._done

    async def drained(self) -> None:
        """Returns once nothing is pending: holds a model back that is faster than the database for long."""
        await self._drained(self)

    @property
    def committed(self) -> int:
        """The number of the last event that is visible."""
        return self.ring.last

    def publish(self, events: list[GenerationEvent]) -> None:
        """Makes committed events visible in this process."""
        self.ring.put(Batch(events))
        if self._done is not None and not self._done.done() and self.is_last(events[-1]):
            self._done.set_result(None)

    def lose(self) -> None:
        """Ends a journal whose generation now belongs to another worker or to nobody; nothing more is stored."""
        self.is_lost = True
        self.pending.clear()
        if self.on_lost is not None:
            self.on_lost()
        if self._done is not None and not self._done.done():
            self._done.set_result(None)
