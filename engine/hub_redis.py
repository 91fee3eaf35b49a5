"""Wake-ups that all processes hear who share a Redis or Valkey. What is missed there is found by looking, never lost."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import math
import random
import secrets
import time
from collections.abc import AsyncGenerator, Generator, Sequence

import structlog
from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.exceptions import RedisError

from engine.hub import LocalHub, Watch

_log = structlog.get_logger()

# A connection that has said nothing for MOST_SILENT pulses although it was asked is given up. Pulses are counted, not
# seconds, so that a process which itself stood still does not blame Redis.
PULSE = 0.5
MOST_SILENT = 3
DEADLINE = 2.0
SHORTEST_REST = 0.05
LONGEST_REST = 1.0
# How long a topic is heard of after its last watch, so that who comes and goes costs no command each time.
LINGER = 1.0
# Whoever watches a topic looks into the database when Redis has begun to tell of it, or has ceased to: not all at once.
SLICE = 100
PAUSE = 0.02
ROUND = 500
GAP = 0.001
MOST_NOTED = 10_000
BREATH = 64
LONGEST_NUMBER = 20
PING = (b"PING",)


class _Outbox:
    """What is to be told: of each topic the greatest number, and whether it was nudged. Bounded: the oldest goes first."""

    __slots__ = ("_nudges", "_numbers")

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._nudges: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._numbers) + len(self._nudges)

    def put(self, topic: str, number: int) -> None:
        if number > self._numbers.get(topic, 0):
            self._numbers[topic] = number
            if len(self._numbers) > MOST_NOTED:
                del self._numbers[next(iter(self._numbers))]

    def nudge(self, topic: str) -> None:
        self._nudges[topic] = None
        if len(self._nudges) > MOST_NOTED:
            del self._nudges[next(iter(self._nudges))]

    def take(self, most: int) -> list[tuple[str, int]]:
        """Topics and numbers; 0 for a nudge."""
        taken = [(topic, 0) for topic in itertools.islice(self._nudges, most)]
        taken += itertools.islice(self._numbers.items(), most - len(taken))
        for topic, number in taken:
            if number:
                del self._numbers[topic]
            else:
                del self._nudges[topic]
        return taken

    def put_back(self, taken: Sequence[tuple[str, int]]) -> None:
        for topic, number in taken:
            if number:
                self.put(topic, number)
            else:
                self.nudge(topic)


class _Topics:
    """For which topics Redis was asked, for which it is to be, and which of them nobody watches any more, since when."""

    __slots__ = ("_asked", "_left", "_wanted")

    def __init__(self) -> None:
        self._asked: set[str] = set()
        self._wanted: dict[str, None] = {}
        self._left: dict[str, float] = {}

    @property
    def wanted(self) -> list[str]:
        return list(self._wanted)

    def enter(self, topic: str) -> bool:
        """Whether Redis is to be asked."""
        self._left.pop(topic, None)
        if topic in self._asked:
            return False
        self._wanted[topic] = None
        return True

    def leave(self, topic: str, moment: float) -> None:
        if topic in self._asked:
            self._left[topic] = moment
        else:
            self._wanted.pop(topic, None)

    def take_wanted(self, most: int) -> list[str]:
        taken = list(itertools.islice(self._wanted, most))
        for topic in taken:
            del self._wanted[topic]
        self._asked.update(taken)
        return taken

    def take_left(self, before: float, most: int) -> list[str]:
        """Those that were left before that moment."""
        since = itertools.takewhile(lambda entry: entry[1] < before, self._left.items())
        taken = [topic for topic, _ in itertools.islice(since, most)]
        for topic in taken:
            del self._left[topic]
        self._asked.difference_update(taken)
        return taken

    def forget(self) -> None:
        """Redis knows of none any more: all that are watched are wanted."""
        self._wanted |= dict.fromkeys(topic for topic in self._asked if topic not in self._left)
        self._asked.clear()
        self._left.clear()


class RedisHub:
    """Without `run()` it is the hub of a single process, whose wake-ups are told to the others once it runs.

    `installation`: what the processes that share a database have in common, and no others on this Redis have.
    """

    def __init__(self, url: str, installation: str) -> None:
        self._kind, self._options = _connection(url)
        self._prefix = f"loquent:wake:{hashlib.sha256(installation.encode()).hexdigest()[:16]}:"
        # What is no number is a nudge. By this one a process knows its own.
        self._nudge = b"nudge:%b" % secrets.token_hex(8).encode()
        self._local = LocalHub()
        self._topics = _Topics()
        self._outbox = _Outbox()
        self._has_wanted = asyncio.Event()
        self._has_mail = asyncio.Event()
        self._is_told = asyncio.Event()
        self._is_told.set()
        self._was_lost = asyncio.Event()
        self._is_away = False
        self._silence = 0
        self.is_connected = False

    def wake(self, topic: str, number: int, *, is_local: bool = False) -> None:
        self._local.wake(topic, number)
        if not is_local:
            self._outbox.put(topic, number)
            self._post()

    def nudge(self, topic: str) -> None:
        self._local.nudge(topic)
        self._outbox.nudge(topic)
        self._post()

    def _post(self) -> None:
        self._has_mail.set()
        if self.is_connected:
            self._is_told.clear()

    @contextlib.contextmanager
    def watch(self, topic: str) -> Generator[Watch]:
        if self._topics.enter(topic):
            self._has_wanted.set()
        try:
            with self._local.watch(topic) as watch:
                yield watch
        finally:
            if not self._local.is_watched(topic):
                self._topics.leave(topic, time.monotonic())

    @property
    def topics(self) -> int:
        """How many topics are watched now."""
        return self._local.topics

    async def flush(self) -> None:
        """Returns once all others were told what is to be told; at once while that cannot be."""
        await self._is_told.wait()

    async def run(self) -> None:
        """Runs until cancelled. Redis may be away, go away and come back meanwhile."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_connected())
            group.create_task(self._stir())

    async def _keep_connected(self) -> None:
        clock = asyncio.get_running_loop().time
        rest = SHORTEST_REST
        while True:
            began = clock()
            try:
                await self._serve()
            except* (RedisError, OSError, TimeoutError) as faults:
                self._note_loss(faults.exceptions[0])
            held = clock() - began
            rest = SHORTEST_REST if held > LONGEST_REST else min(LONGEST_REST, 2 * rest)
            await asyncio.sleep(rest * random.uniform(0.5, 1))  # noqa: S311 - spreads the attempts of many, guards no secret

    async def _serve(self) -> None:
        """Raises whatever the connections fail with."""
        try:
            # What is done first shows that it is allowed: it is else told as found, and as lost again, at every attempt.
            listening = self._connected((b"SUBSCRIBE", self._channel("")))
            telling = self._connected((b"PUBLISH", self._channel(""), self._nudge))
            async with listening as listener, telling as teller, asyncio.TaskGroup() as group:
                self._note_connection()
                group.create_task(self._listen(listener))
                group.create_task(self._ask(listener))
                group.create_task(self._tell(teller))
        finally:
            self._topics.forget()
            self._is_told.set()
            if self.is_connected:
                self.is_connected = False
                self._was_lost.set()

    @contextlib.asynccontextmanager
    async def _connected(self, first: Sequence[bytes]) -> AsyncGenerator[AbstractConnection]:
        """One that has done a first command."""
        connection = self._kind(**self._options)  # type: ignore[arg-type] # what the library reads in an address it takes
        try:
            async with asyncio.timeout(DEADLINE):
                await connection.connect_check_health()
            await _exchange(connection, [first])
            yield connection
        finally:
            await connection.disconnect(nowait=True)

    def _note_connection(self) -> None:
        self.is_connected = True
        self._silence = 0
        self._has_wanted.set()
        if self._outbox:
            self._post()
        if self._is_away:
            self._is_away = False
            _log.info("other processes heard again")

    def _note_loss(self, error: BaseException) -> None:
        if not self._is_away:
            self._is_away = True
            # Not the text of the error: it may name what the address holds.
            _log.warning("other processes not heard", reason=type(error).__name__)

    async def _stir(self) -> None:
        """Tells those who counted on being told that they are not any more."""
        while True:
            await self._was_lost.wait()
            self._was_lost.clear()
            topics = self._topics.wanted
            for start in range(0, len(topics), SLICE):
                for topic in topics[start : start + SLICE]:
                    self._local.nudge(topic)
                await asyncio.sleep(PAUSE)

    async def _listen(self, connection: AbstractConnection) -> None:
        count = 0
        while True:
            match await connection.read_response(timeout=math.inf):
                case [b"message", bytes(channel), bytes(payload)]:
                    self._hear(self._topic(channel), payload)
                case [b"subscribe", bytes(channel), _]:
                    # What was woken before this answer was heard by nobody here.
                    self._local.nudge(self._topic(channel))
            self._silence = 0
            count += 1
            if not count % BREATH:
                # What has come already is read without a pause, and may be thousands.
                await asyncio.sleep(0)

    def _channel(self, topic: str) -> bytes:
        # Whatever a topic is made of, it has a channel.
        return (self._prefix + topic).encode(errors="surrogatepass")

    def _topic(self, channel: bytes) -> str:
        return channel.decode(errors="surrogatepass").removeprefix(self._prefix)

    def _hear(self, topic: str, payload: bytes) -> None:
        if payload.isdigit() and len(payload) < LONGEST_NUMBER:
            self._local.wake(topic, int(payload))
        elif payload != self._nudge:
            self._local.nudge(topic)

    async def _ask(self, connection: AbstractConnection) -> None:
        """Asks for what is watched, and whether Redis is there. Raises TimeoutError when it is not."""
        clock = asyncio.get_running_loop().time
        due = clock()
        while True:
            if clock() >= due:
                due = clock() + PULSE
                await self._check(connection)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._has_wanted.wait()
            self._has_wanted.clear()
            wanted = self._topics.take_wanted(SLICE)
            left = self._topics.take_left(time.monotonic() - LINGER, SLICE)
            commands = ((b"SUBSCRIBE", wanted), (b"UNSUBSCRIBE", left))
            await _send(connection, [(name, *map(self._channel, topics)) for name, topics in commands if topics])
            if len(wanted) == SLICE or len(left) == SLICE:
                self._has_wanted.set()
                await asyncio.sleep(PAUSE)

    async def _check(self, connection: AbstractConnection) -> None:
        self._silence += 1
        if self._silence > MOST_SILENT:
            raise TimeoutError
        await _send(connection, [PING])

    async def _tell(self, connection: AbstractConnection) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PULSE):
                    await self._has_mail.wait()
            self._has_mail.clear()
            mail = self._outbox.take(ROUND)
            news = [
                (b"PUBLISH", self._channel(topic), str(number).encode() if number else self._nudge)
                for topic, number in mail
            ]
            try:
                await _exchange(connection, news or [PING])
            except BaseException:
                # It may have been told, and will be again: numbers and nudges may be repeated, but not lost.
                self._outbox.put_back(mail)
                raise
            if self._outbox:
                self._has_mail.set()
            else:
                self._is_told.set()
            # Where much is woken, a round trip tells several.
            await asyncio.sleep(GAP)


def _connection(url: str) -> tuple[type[AbstractConnection], dict[str, object]]:
    """What makes a connection, and of what. Raises ValueError for what is no address of Redis."""
    found = parse_url(url)
    options: dict[str, object] = {**found}
    for name in ("connection_class", "max_connections", "timeout"):
        options.pop(name, None)
    # Answers are told apart by their shape, and the deadlines are those of this file, whatever the address says of them.
    options |= {"protocol": 2, "decode_responses": False, "socket_timeout": None}
    return found.get("connection_class", Connection), options


async def _send(connection: AbstractConnection, commands: Sequence[Sequence[bytes]]) -> None:
    if commands:
        async with asyncio.timeout(DEADLINE):
            await connection.send_packed_command(connection.pack_commands(commands), check_health=False)


async def _exchange(connection: AbstractConnection, commands: Sequence[Sequence[bytes]]) -> None:
    """Sends commands and reads as many answers. Raises RedisError, TimeoutError."""
    await _send(connection, commands)
    async with asyncio.timeout(DEADLINE):
        for _ in commands:
            await connection.read_response(timeout=math.inf)
