"""The contract of upstreams that hold models in a memory of ours: what stands there, what waits to, and how it is freed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from engine.events import Failure


class ModelState(StrEnum):
    """`busy` is loaded and answering; `error` is not loaded, because the last attempt failed."""

    UNLOADED = "unloaded"
    QUEUED = "queued"
    LOADING = "loading"
    LOADED = "loaded"
    BUSY = "busy"
    UNLOADING = "unloading"
    ERROR = "error"

    @property
    def is_in_memory(self) -> bool:
        return self in (ModelState.LOADED, ModelState.BUSY)


@dataclass(frozen=True, slots=True)
class Residence:
    """How one model stands with its host. `model` is the host's own name for it.

    `queue_position` counts from 1, and is 0 for a model that does not wait; `queue_depth` is how many loads wait at this
    host. `busy_count` are the answers that are being written or wait for the model. None stands for what is not known.
    """

    model: str
    state: ModelState = ModelState.UNLOADED
    queue_position: int = 0
    queue_depth: int = 0
    busy_count: int = 0
    memory_bytes: int | None = None
    loaded_at: datetime | None = None
    last_used_at: datetime | None = None
    is_pinned: bool = False
    failure: Failure | None = None


class InUse(Exception):
    """A model is not unloaded, because answers are being written by it or it is pinned. Nothing has changed."""

    def __init__(self, busy_count: int, *, is_pinned: bool) -> None:
        super().__init__(f"busy {busy_count}, pinned {is_pinned}")
        self.busy_count = busy_count
        self.is_pinned = is_pinned


class Changes:
    """A number that grows with each change. What changes twice before anybody looks is seen once."""

    def __init__(self) -> None:
        self.number = 0
        self._waiting: set[asyncio.Future[None]] = set()

    def tell(self) -> None:
        self.number += 1
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def beyond(self, number: int) -> None:
        """Returns once the number is greater than this one."""
        while self.number <= number:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.add(waiter)
            try:
                await waiter
            finally:
                self._waiting.discard(waiter)


@runtime_checkable
class Host(Protocol):
    """Beside `Provider`, for those that can. `pinned` are models that leave only when a force is used; others set it.

    Each process has its own view: what it holds itself is exact, what a server of models holds is as that server tells.
    """

    pinned: frozenset[str]

    @property
    def changes(self) -> Changes:
        """Told at each change that happens in this process."""
        ...

    async def residence(self, model: str) -> Residence:
        """Raises UpstreamError when the host does not answer. A model that is not there is `unloaded`."""
        ...

    async def residences(self) -> Sequence[Residence]:
        """Those in memory, the one loaded first first. Raises UpstreamError."""
        ...

    async def load(self, model: str) -> None:
        """Returns once the model is in memory. Cancelling ends the load, unless somebody else waits for it as well.

        Raises UpstreamError, also where the model is unloaded meanwhile.
        """
        ...

    async def unload(self, model: str, *, is_forced: bool = False) -> bool:
        """Returns once its memory is free: whether there was anything to free. A load that has not ended is given up.

        With force it also ends the answers that are being written. Raises InUse, UpstreamError.
        """
        ...

    async def sweep(self) -> None:
        """Frees what has not been used for long. To be called every now and then; never raises."""
        ...
