"""The newest events of one generation, as all of its followers in this process read them."""

from __future__ import annotations

from collections.abc import Iterable

from engine.events import GenerationEvent, is_terminal

RING_EVENTS = 4096


class Batch(list[GenerationEvent]):
    """Events that became visible together: the same object for every follower. Read it, never change it.

    `memo` is where whoever encodes them keeps the result for the next follower, under a key of their own.
    """

    __slots__ = ("memo",)

    def __init__(self, events: Iterable[GenerationEvent] = ()) -> None:
        super().__init__(events)
        self.memo: dict[object, object] = {}


class Ring:
    """Batches in order. Once it holds more than RING_EVENTS events the oldest go, if they can be read elsewhere.

    `last` is the number of the newest event that was ever in it.
    """

    __slots__ = ("_kept", "batches", "is_bounded", "last")

    def __init__(self, *, is_bounded: bool, last: int = 0) -> None:
        self.is_bounded = is_bounded
        self.last = last
        self.batches: list[Batch] = []
        self._kept = 0

    def put(self, batch: Batch) -> None:
        self.batches.append(batch)
        self._kept += len(batch)
        while self.is_bounded and self._kept > RING_EVENTS and len(self.batches) > 1:
            self._kept -= len(self.batches.pop(0))
        self.last = batch[-1].seq

    @property
    def is_over(self) -> bool:
        """Whether the terminal event is in it."""
        return bool(self.batches) and is_terminal(self.batches[-1][-1])

    def after(self, number: int) -> Batch | None:
        """The events past `number`, none when there are none yet; None when they are no longer, or were never, in it."""
        if number >= self.last:
            return Batch()
        if not self.batches or number + 1 < self.batches[0][0].seq:
            return None
        # From the end: a follower is nearly always at the last batch or the one before it.
        index = len(self.batches) - 1
        while self.batches[index][0].seq > number + 1:
            index -= 1
        batch = self.batches[index]
        offset = number + 1 - batch[0].seq
        if not offset:
            # Whole, even where more have come since: what is shared is encoded once.
            return batch
        return Batch(batch[offset:])
