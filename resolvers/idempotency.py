"""Requests that may be repeated: what is asked under a key of its caller has its effect once.

The key is stored in the transaction that has the effect. So there is no state in between, nothing to clear up after a crash,
and no answer to keep: it is made again from what was made.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import anyio
import msgspec

from db import idempotency
from db.base import ReadSession, WriteSession, now
from resolvers.call import Call
from resolvers.errors import InvalidInput, KeyReused

LONGEST_KEY = 255

T = TypeVar("T")


class Made:
    """What was made under a key: ids and names, by noun."""

    def __init__(self, result: Mapping[str, object]) -> None:
        self._result = result

    def one(self, noun: str) -> str:
        return str(self._result[noun])

    def maybe(self, noun: str) -> str | None:
        return self.one(noun) if noun in self._result else None

    def many(self, noun: str) -> list[str]:
        found = self._result[noun]
        assert isinstance(found, list), "it was stored as one"
        return found


class _Repeated(Exception):
    """Somebody else has had the effect. Climbs out of the transaction that wanted to, so that it leaves no trace."""

    def __init__(self, made: Made) -> None:
        super().__init__()
        self.made = made


@dataclass(frozen=True, slots=True)
class _Claim:
    """A key of a user, and what is asked under it."""

    user_id: str
    key: str
    fingerprint: str

    async def found(self, session: ReadSession) -> Made | None:
        """What was made under it; None while that is nothing. Raises KeyReused."""
        row = await idempotency.find(session, self.user_id, self.key, now())
        if row is None:
            return None
        if row.fingerprint != self.fingerprint:
            raise KeyReused
        return Made(row.result)

    async def take(self, session: WriteSession) -> None:
        """Raises _Repeated, KeyReused."""
        while not await idempotency.claim(session, self.user_id, self.key, self.fingerprint, now()):
            made = await self.found(session)
            # What has just become too old is there for neither of the two.
            if made is not None:
                raise _Repeated(made)


class Effect:
    """What a request does: once under its caller's key, without one whenever it is asked."""

    def __init__(self, call: Call, claim: _Claim | None = None) -> None:
        self._call = call
        self._claim = claim
        self._result: dict[str, object] = {}

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncGenerator[WriteSession]:
        """`Call.write()` for the one transaction that has the effect. `made` is told within it."""
        async with self._call.write() as session:
            if self._claim is not None:
                await self._claim.take(session)
            yield session
            if self._claim is not None:
                await idempotency.keep(session, self._claim.user_id, self._claim.key, self._result)

    def made(self, **things: str | Sequence[str] | None) -> None:
        """Names what was made, for whoever asks again."""
        self._result |= {
            noun: thing if isinstance(thing, str) else list(thing)
            for noun, thing in things.items()
            if thing is not None
        }


async def once(
    call: Call,
    operation: str,
    asked: object,
    act: Callable[[Effect], Awaitable[T]],
    again: Callable[[Made], Awaitable[T]],
) -> T:
    """Has `act` do what is asked, once for each key of a caller within 24 hours.

    Whoever asks the same under the same key later, at the same time, in another process or after a crash is answered by
    `again`, from what was made as it is now. Without a key `act` is done each time.

    `act` writes in one `Effect.write()`, names there by `Effect.made()` what it made, and starts nothing before that is
    committed; it is not cancelled in between, whoever leaves. Where it raises, the key is still free. `operation` and
    `asked` are what the key stands for: both faces ask the same where they call the same. Raises InvalidInput for a key that
    is none, KeyReused when something else was asked under it.
    """
    if call.idempotency_key is None:
        with _finished():
            return await act(Effect(call))
    claim = _claimed(call, call.idempotency_key, operation, asked)
    # One of this process waits in the database for those of the others, so that the rest of them hold no connection.
    async with call.services.turns.turn((claim.user_id, claim.key)):
        # Before anything else, because what is checked and held for a new effect says nothing about one that was had.
        async with call.read() as session:
            made = await claim.found(session)
        if made is None:
            try:
                with _finished():
                    return await act(Effect(call, claim))
            except _Repeated as repeated:
                made = repeated.made
    return await again(made)


@contextlib.contextmanager
def _finished() -> Generator[None]:
    """Whoever leaves meanwhile does not leave something stored that never begins."""
    with anyio.CancelScope(shield=True):
        yield


async def release(call: Call, made: Mapping[str, object]) -> None:
    """Frees the key of a call under which this was made, if there is one: it came to nothing."""
    if call.caller is None or call.idempotency_key is None:
        return
    async with call.write() as session:
        await idempotency.release(session, call.caller.user_id, call.idempotency_key, made)


def _claimed(call: Call, key: str, operation: str, asked: object) -> _Claim:
    if not (1 <= len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
        raise InvalidInput(
            f"An idempotency key has 1 to {LONGEST_KEY} printable ASCII characters", field="idempotencyKey"
        )
    assert call.caller is not None, "whoever has an effect has signed in"
    # By the standard library, because callers' own JSON may hold numbers that the faster encoder refuses.
    canonical = json.dumps([operation, msgspec.to_builtins(asked)], sort_keys=True, separators=(",", ":"))
    return _Claim(call.caller.user_id, key, hashlib.sha256(canonical.encode()).hexdigest())
