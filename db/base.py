"""The database: two kinds of session, public ids, and the types that make SQLite and PostgreSQL answer alike."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Protocol

from sqlalchemy import JSON, Connection, DateTime, Dialect, MetaData, String, TypeDecorator, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeEngine

from db.dialects import OnPostgresql

# A connection that a firewall has silently dropped lives no longer than this, in seconds.
OLDEST_CONNECTION = 600
# In seconds: what a connection may take, what a statement may take before it is given up on both sides, and how long one may
# wait for a connection that others hold. SQLite has no statements that hang, only a lock that another process may hold.
CONNECT_SECONDS = 5.0
STATEMENT_SECONDS = 10.0
# How long a transaction of PostgreSQL may wait for its process. None of ours waits for anything but the database.
IDLE_SECONDS = 5
QUEUE_SECONDS = 1.5
LOCK_SECONDS = 5.0
# Connections for what must not wait behind requests: the log of what runs, and the heart of a worker.
RESERVED = 2
_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [first + second for first in _CROCKFORD for second in _CROCKFORD]
_SHIFTS = range(110, -1, -10)


class _Ids:
    """Numbers of 120 bits: 48 of the time in ms, 72 random. Each is greater than the one before it in this process, also
    within a millisecond, so that what is ordered by id is in the order of its making."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        number = (time.time_ns() // 1_000_000 << 72) | int.from_bytes(os.urandom(9))
        if number <= self._last:
            number = self._last + 1 + int.from_bytes(os.urandom(5))
        self._last = number
        return number


_ids = _Ids()


def new_id(prefix: str) -> str:
    """A public id: `prefix_` and 24 characters that sort by the order of their making."""
    return _id(prefix, _ids.next())


def derived_id(prefix: str, moment: datetime, *names: str) -> str:
    """A public id as of this moment that is always the same for the same names."""
    milliseconds = max(0, int(moment.timestamp() * 1000))
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return _id(prefix, (milliseconds << 72) | int.from_bytes(digest[:9]))


def _id(prefix: str, number: int) -> str:
    return prefix + "_" + "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])


def now() -> datetime:
    """UTC, cut to milliseconds: what both databases keep and both faces show."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


class StorageError(Exception):
    """The database is away, busy or full. `is_full` when only space is missing, `is_busy` when another process writes."""

    def __init__(self, message: str, *, is_full: bool = False, is_busy: bool = False) -> None:
        super().__init__(message)
        self.is_full = is_full
        self.is_busy = is_busy


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC on both sides; SQLite keeps no zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


class Text(TypeDecorator[str]):
    """Text that both databases can hold and order alike (by code point). The doors refuse NUL and lone surrogates; this is
    the last of them."""

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[str]:
        return dialect.type_descriptor(String(collation="C") if dialect.name == "postgresql" else String())

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is not None and not is_storable(value):
            raise ValueError("text with a NUL or a lone surrogate reached the database")
        return value


def is_storable(value: str) -> bool:
    """Whether PostgreSQL can keep this text: no NUL, no lone surrogate. SQLite keeps NUL, so both are held to one rule."""
    if "\x00" in value:
        return False
    if value.isascii():
        return True
    return not any("\ud800" <= character <= "\udfff" for character in value)


_DOCUMENT = JSON().with_variant(OnPostgresql("JSONB"), "postgresql")


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {
        str: Text,
        datetime: UtcDateTime,
        dict[str, object]: _DOCUMENT,
        list[str]: _DOCUMENT,
        list[dict[str, object]]: _DOCUMENT,
    }


class ReadSession(AsyncSession):
    """Reads only. Each statement is its own snapshot: no BEGIN and ROLLBACK round trips."""


Step = Callable[[], Awaitable[None]]
Listener = Callable[[str, int], None]


class WriteSession(ReadSession):
    """One transaction, committed when its block ends. Queries flush, never commit."""

    @cached_property
    def last_steps(self) -> list[Step]:
        """What is done last in the transaction: it takes locks that every writer needs, so nothing is waited for behind them."""
        return []

    @cached_property
    def wakes(self) -> list[tuple[str, int]]:
        """Topics and numbers that are told to the listeners of the database once the transaction is committed."""
        return []


class Sessions(Protocol):
    """What resolvers and the engine are given of the database."""

    def read(self) -> AbstractAsyncContextManager[ReadSession]: ...

    def write(self) -> AbstractAsyncContextManager[WriteSession]: ...


@dataclass(frozen=True, slots=True)
class Lanes:
    """Reads by the connections of one, writes by those of the other."""

    reads: Sessions
    writes: Sessions

    def read(self) -> AbstractAsyncContextManager[ReadSession]:
        return self.reads.read()

    def write(self) -> AbstractAsyncContextManager[WriteSession]:
        return self.writes.write()


def database_url(address: str) -> URL:
    """SQLAlchemy's URL for any address the documents use, `postgres://…?sslmode=disable` included."""
    url = make_url(address)
    backend = url.get_backend_name()
    if backend in ("postgres", "postgresql"):
        query = dict(url.query)
        sslmode = query.pop("sslmode", None)
        if sslmode is not None:
            query["ssl"] = sslmode
        return url.set(drivername="postgresql+asyncpg", query=query)
    if backend == "sqlite":
        return url.set(drivername="sqlite+aiosqlite")
    raise ValueError(f"DATABASE_URL names {backend!r}; sqlite and postgresql are supported")


class Database:
    """The engine behind the sessions. Everything that talks to the database goes through `read()` or `write()`."""

    def __init__(
        self, address: str, *, pool_size: int = 10, statement_seconds: float | None = STATEMENT_SECONDS
    ) -> None:
        self.url = database_url(address)
        self.dialect = self.url.get_backend_name()
        self._statement_seconds = statement_seconds
        self.engines = self._sqlite() if self.dialect == "sqlite" else self._postgresql(pool_size)
        reader, writer = self.engines
        if self.dialect == "postgresql":
            reader = reader.execution_options(isolation_level="AUTOCOMMIT")
        self._read = async_sessionmaker(reader, class_=ReadSession, expire_on_commit=False, autoflush=False)
        self._write = async_sessionmaker(writer, class_=WriteSession, expire_on_commit=False)
        self.listeners: list[Listener] = []

    @cached_property
    def reserved(self) -> Database:
        """The same one by a few connections of its own, for what must go on however many wait for the others.

        Its listeners are the same, and it is closed with this one. SQLite has one writer, so it has no such lane.
        """
        if self.dialect == "sqlite":
            return self
        found = Database(self._address, pool_size=RESERVED, statement_seconds=self._statement_seconds)
        found.listeners = self.listeners
        return found

    def _postgresql(self, pool_size: int) -> tuple[AsyncEngine, AsyncEngine]:
        engine = create_async_engine(
            self.url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=QUEUE_SECONDS,
            pool_recycle=OLDEST_CONNECTION,
            connect_args={"timeout": CONNECT_SECONDS, "command_timeout": self._statement_seconds},
            hide_parameters=True,
        )
        event.listen(engine.sync_engine, "connect", _let_go_of_sleepers)
        event.listen(engine.sync_engine, "checkout", _check_open)
        return engine, engine

    def _sqlite(self) -> tuple[AsyncEngine, AsyncEngine]:
        # One writer connection: SQLite has one writer, and a queue in this process is fairer than its busy wait.
        if self.url.database:
            Path(self.url.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        reader = create_async_engine(
            self.url, pool_size=8, max_overflow=8, pool_timeout=QUEUE_SECONDS, hide_parameters=True
        )
        # Where a commit takes a tenth of a second, a few dozen writers at once are no overload yet.
        writer = create_async_engine(
            self.url, pool_size=1, max_overflow=0, pool_timeout=LOCK_SECONDS, hide_parameters=True
        )
        _prepare_sqlite(reader)
        _prepare_sqlite(writer)
        # Readers stay without a transaction, as on PostgreSQL: each statement is its own snapshot, a fifth cheaper.
        event.listen(writer.sync_engine, "begin", _begin)
        return reader, writer

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncGenerator[ReadSession]:
        """Raises StorageError when the database cannot answer."""
        with _renamed():
            async with self._read() as session:
                yield session

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncGenerator[WriteSession]:
        """Raises StorageError when the database cannot answer or is full; nothing of the block is kept then."""
        with _renamed():
            async with self._write.begin() as session:
                yield session
                for step in session.last_steps:
                    await step()
        for topic, number in session.wakes:
            for listener in self.listeners:
                listener(topic, number)

    @contextlib.asynccontextmanager
    async def unhurried(self) -> AsyncGenerator[Database]:
        """The same one for work that may take as long as it takes: none of its statements is given up."""
        if self.dialect == "sqlite":
            yield self
            return
        patient = Database(self._address, pool_size=1, statement_seconds=None)
        try:
            yield patient
        finally:
            await patient.close()

    @property
    def _address(self) -> str:
        return self.url.render_as_string(hide_password=False)

    async def close(self) -> None:
        # Where nobody has asked for it, it is not there.
        reserved = self.__dict__.get("reserved", self)
        if reserved is not self:
            await reserved.close()
        for engine in self.engines:
            await engine.dispose()


def _let_go_of_sleepers(connection: DBAPIConnection, _record: object) -> None:
    """The locks of a process that stands still within a transaction must not keep the others from ending what it ran.

    Set once the connection stands and not with it: proxies refuse to start one with a setting that they do not know.
    """
    cursor = connection.cursor()
    cursor.execute(f"SET idle_in_transaction_session_timeout = {IDLE_SECONDS * 1000}")
    cursor.close()
    connection.commit()


def _check_open(connection: DBAPIConnection, _record: object, _proxy: object) -> None:
    """Whether the other side has closed it is known here; to ask would take three more round trips for each session."""
    if connection.driver_connection.is_closed():
        raise InvalidatePoolError


def _prepare_sqlite(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def connect(connection: object, _record: object) -> None:
        # The driver's own transaction handling starts too late; SQLAlchemy sends BEGIN itself below.
        connection.isolation_level = None  # type: ignore[attr-defined]
        cursor = connection.cursor()  # type: ignore[attr-defined]
        patience = f"busy_timeout={round(1000 * LOCK_SECONDS)}"
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", patience):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()


def _begin(connection: Connection) -> None:
    # At once for writing: a transaction that reads first and writes later could be refused half way.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


# The classes of PostgreSQL's states that say nothing of the statement: connections, rollbacks for the sake of others, too few
# resources, locks, a server that starts or stops or gave up waiting, and the disk; a server that only reads for now, or has let go of who slept.
_PASSING = ("08", "40", "53", "55", "57", "58", "25006", "25P03")


@contextlib.contextmanager
def _renamed() -> Generator[None]:
    """Our name for every way in which the database can be away. Broken rules (IntegrityError) stay what they are."""
    try:
        yield
    except PoolTimeout as error:
        raise StorageError("the database has no free connection") from error
    except (OperationalError, InterfaceError, InternalError) as error:
        is_busy = getattr(error.orig, "sqlite_errorname", "") == "SQLITE_BUSY"
        raise StorageError("the database cannot answer", is_full=_is_full(error), is_busy=is_busy) from error
    except DBAPIError as error:
        if not error.connection_invalidated and not _sqlstate(error).startswith(_PASSING):
            raise
        raise StorageError("the database went away", is_full=_is_full(error)) from error
    except OSError as error:
        raise StorageError("the database cannot be reached") from error


def _is_full(error: DBAPIError) -> bool:
    return getattr(error.orig, "sqlite_errorname", "") == "SQLITE_FULL" or _sqlstate(error) == "53100"


def _sqlstate(error: DBAPIError) -> str:
    """PostgreSQL's five letters for what is wrong; empty where it was not it that said so."""
    return getattr(error.orig, "sqlstate", None) or ""
