"""Makes what the process shares, in one place, and opens and closes it in one order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from db.base import Database, Lanes, StorageError
from db.migrate import is_current, migrate
from engine.added import Added
from engine.addresses import allowing
from engine.catalogue import Catalogue
from engine.expiry import Expiry
from engine.feed import Feed
from engine.fleet import Fleet
from engine.http import Guard, HttpClient, Timeouts
from engine.hub import Hub, LocalHub
from engine.lifecycle import Lifecycle
from engine.log import EventLog
from engine.media import Limits, Media
from engine.providers.registry import Registry
from engine.retention import Retention
from engine.supervisor import Supervisor
from engine.tools.box import Box
from engine.tools.keeper import Doors, ToolKeeper
from engine.tools.toolset import Bounds
from engine.trace import UNTRACED, Trace
from engine.vault import Vault, VaultError
from resolvers.allowances import Allowances
from resolvers.call import Policy, Services
from resolvers.errors import InvalidInput
from resolvers.jwks import ExternalIssuer, Issuer
from resolvers.keyring import Keyring
from resolvers.limits import Limiter, Rates
from resolvers.operators import ensure_administrator
from resolvers.paging import Cursors
from resolvers.passwords import Passwords
from resolvers.provider_keys import lost_marks
from resolvers.sign_ins import SignIns
from resolvers.titler import Titler
from resolvers.tokens import TokenSigner
from server import tool_list
from server.settings import Settings, SettingsError
from server.upstreams import registry

if TYPE_CHECKING:
    from engine.hub_redis import RedisHub

_log = structlog.get_logger()

KEY_FILE = "signing-key.pem"
MASTER_FILE = "master-key"
MEDIA_FOLDER = "media"
MODELS_WAIT = 0.5
FLUSH_WAIT = 5.0
TOOL_SILENCE = 3600.0


class Process:
    """Everything with a life. Making it does no work; `running()` does."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._trace = _trace(settings)
        self._http = _http(settings, self._trace)
        self._database = Database(settings.database_address, statement_seconds=settings.database_timeout)
        self._redis = _redis_hub(settings, self._database)
        self._hub: Hub = self._redis or LocalHub()
        self._database.listeners.append(self._hub.wake)
        # Neither what runs nor that this process lives may wait for requests that wait for connections.
        reserved = self._database.reserved
        self._event_log = EventLog(Lanes(self._database, reserved), self._hub)
        self._limiter = _limiter(settings)
        self._allowances = Allowances(self._limiter)
        self._media = _media(settings, self._database, self._http)
        self._retention = Retention(self._database, events=timedelta(hours=settings.events_kept), media=self._media)
        self._tasks: list[asyncio.Task[None]] = []
        self.goodbyes: list[Callable[[], Awaitable[None]]] = []
        signer = TokenSigner.from_file(settings.data / KEY_FILE)
        supervisor, models = Supervisor(self._event_log, trace=self._trace), registry(settings, self._http)
        secrets = vault(settings)
        self._provider_door, self._catalogue = self._catalogue_of(models, secrets)
        self._titler = Titler(self._database, supervisor, models, settings.title_model)
        self._toolbox = Box(meter=self._event_log.meter, trace=self._trace)
        self._tool_doors = _tool_doors(self._trace)
        self._tools = self._tool_keeper(secrets)
        self.services = Services(
            database=self._database,
            supervisor=supervisor,
            registry=models,
            titler=self._titler,
            media=self._media,
            toolbox=self._toolbox,
            tools=self._tools,
            signer=signer,
            cursors=Cursors(signer.derive("cursors")),
            sign_ins=SignIns(self._database, self._hub),
            policy=_policy(settings),
            passwords=Passwords(settings.password_memory, settings.password_iterations),
            external=_external(settings, self._http),
            keyring=Keyring(self._database, secrets, settings.api_key_env),
            feed=Feed(self._database, self._hub),
            fleet=Fleet(reserved, self._hub, supervisor, timeout=settings.worker_timeout),
            away=self.away,
            meter=self._event_log.meter,
            trace=self._trace,
            lifecycle=Lifecycle(models),
            limiter=self._limiter,
            allowances=self._allowances,
            catalogue=self._catalogue,
        )

    def _tool_keeper(self, secrets: Vault) -> ToolKeeper:
        specs = tool_list.specs(self._settings.mcp_servers)
        return ToolKeeper(self._database, self._hub, self._toolbox, secrets, self._tool_doors, specs)

    def _catalogue_of(self, models: Registry, secrets: Vault) -> tuple[HttpClient, Catalogue]:
        """With the door to the providers that administrators add."""
        settings = self._settings
        is_allowed = allowing([str(network) for network in settings.provider_networks])
        # An answer may take as long as one of the operator's own providers.
        guard = Guard(ports=None, is_allowed=is_allowed, total=None)
        door = HttpClient(_timeouts(settings), connections_per_host=0, guard=guard, trace=self._trace)
        added = Added(secrets, door, is_allowed=is_allowed, concurrency=settings.upstream_concurrency)
        return door, Catalogue(self._database, self._hub, models, added)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncGenerator[contextlib.AsyncExitStack]:
        """Closes all that is held when the block ends."""
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._trace.close)
            stack.push_async_callback(self._database.close)
            stack.push_async_callback(self._http.close)
            stack.push_async_callback(self._media.close)
            stack.push_async_callback(self._limiter.close)
            stack.push_async_callback(self._allowances.close)
            stack.push_async_callback(self.services.registry.close)
            for door in (self._provider_door, self._tool_doors.configured, self._tool_doors.guarded):
                stack.push_async_callback(door.close)
            stack.push_async_callback(self._toolbox.close)
            stack.push_async_callback(self.services.lifecycle.close)
            stack.push_async_callback(self.services.keyring.close)
            if self.services.external is not None:
                stack.push_async_callback(self.services.external.close)
            yield stack

    async def prepare(self) -> None:
        """Makes the database what this version needs. Raises StorageError, and SettingsError when that is not to be done."""
        await self._prepare_tables()
        await self._check_keys()
        await self._ensure_administrator()

    async def part(self) -> None:
        """Says goodbye to everybody who is connected for long."""
        for say_goodbye in self.goodbyes:
            await say_goodbye()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Open until the block ends. Raises what `prepare` raises."""
        async with self.opened() as stack:
            await self.prepare()
            if self._redis is not None:
                self._start("wake-ups", self._redis.run())
            self._start("log writer", self._event_log.run())
            self._start("sign-ins", self.services.sign_ins.run())
            self._start("feeds", self.services.feed.run())
            self._start("views", self.services.views.run(self._database))
            await self.services.fleet.open()
            self._start("retention", self._retention.run())
            self._start("fleet", self.services.fleet.run())
            await self._tools.read()
            self._start("tools", self._tools.run())
            self._start("model lifecycle", self.services.lifecycle.run())
            self._start("approvals", Expiry(self._database).run())
            stack.push_async_callback(self._stop)
            await self._list_models()
            yield

    async def away(self) -> Sequence[str]:
        """What is missing: of database, migrations, redis, background_work; and draining once the process is to leave."""
        found = []
        try:
            async with asyncio.timeout(1):
                if not await is_current(self._database):
                    found.append("migrations")
        except (StorageError, TimeoutError):
            found.append("database")
        if self._redis is not None and not self._redis.is_connected:
            found.append("redis")
        if not self._tasks or any(task.done() for task in self._tasks):
            found.append("background_work")
        if self.services.supervisor.is_draining:
            found.append("draining")
        return tuple(found)

    @property
    def database(self) -> Database:
        return self._database

    @property
    def is_waked(self) -> bool | None:
        """Whether other processes are heard; None where there is nothing to hear them by."""
        return self._redis.is_connected if self._redis is not None else None

    def work(self) -> dict[str, bool]:
        """What must run in the background, and whether it does."""
        return {task.get_name(): not task.done() for task in self._tasks}

    async def _prepare_tables(self) -> None:
        if self._settings.auto_migrate:
            await migrate(self._database)
        elif not await is_current(self._database):
            raise SettingsError("AUTO_MIGRATE is off and the database is not up to date; run `loquent migrate`")

    async def _check_keys(self) -> None:
        if await lost_marks(self._database, self.services.keyring.vault):
            raise SettingsError(
                "stored keys were sealed with a master secret that is not here: bring back LOQUENT_MASTER_KEY or the file "
                f"{self._settings.data / MASTER_FILE}, or give those keys up with `loquent key discard`"
            )

    async def _ensure_administrator(self) -> None:
        email, password = self._settings.admin_email, self._settings.admin_password
        if email is None or password is None:
            return
        try:
            await ensure_administrator(self._database, self.services.passwords, email, password.get_secret_value())
        except InvalidInput as error:
            raise SettingsError(f"ADMIN_EMAIL, ADMIN_PASSWORD: {error.message}") from error

    async def _list_models(self) -> None:
        """Waits a moment for the lists of models; a slow upstream must not hold up the start, its list comes later."""
        first = asyncio.Event()
        await self._catalogue.read()
        self._start("catalogue", self._catalogue.run(first))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MODELS_WAIT):
                await first.wait()

    def _start(self, name: str, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(_notice)
        self._tasks.append(task)

    async def _stop(self) -> None:
        await self._titler.close()
        await self.services.supervisor.close()
        with contextlib.suppress(TimeoutError, StorageError):
            async with asyncio.timeout(FLUSH_WAIT):
                await self._event_log.flush()
                await self.services.views.flush(self._database)
                await self.services.fleet.close()
                if self._redis is not None:
                    await self._redis.flush()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()


def _redis_hub(settings: Settings, database: Database) -> RedisHub | None:
    if settings.redis_url is None:
        return None
    # Late: the client of Redis takes long to load, and much memory.
    from engine.hub_redis import RedisHub  # noqa: PLC0415

    # Processes that name one database alike are those that tell each other.
    url = database.url
    return RedisHub(settings.redis_url.get_secret_value(), f"{url.host}:{url.port}/{url.database}")


def _timeouts(settings: Settings) -> Timeouts:
    return Timeouts(
        connect=settings.upstream_connect_timeout,
        first_byte=settings.upstream_first_byte_timeout,
        idle=settings.upstream_idle_timeout,
        whole=settings.upstream_answer_timeout,
    )


def _http(settings: Settings, trace: Trace) -> HttpClient:
    # How many may be open at once is bounded for each upstream; two of them may have one host.
    return HttpClient(_timeouts(settings), connections_per_host=0, trace=trace)


def _trace(settings: Settings) -> Trace:
    if not settings.otel_enabled:
        return UNTRACED
    # Late: it takes half a second, and most servers do without it.
    from server.telemetry import Telemetry  # noqa: PLC0415

    return Telemetry(settings)


def _policy(settings: Settings) -> Policy:
    bounds = Bounds(turns=settings.tool_turns, at_once=settings.tools_at_once)
    origins = frozenset(settings.cors_origins)
    return Policy(
        settings.guests, settings.auto_reply, settings.invite_required, bounds, origins, settings.approval_seconds
    )


class _Ports:
    """All but those of the system's own services: an address is a public one all the same. As a set they take 4 MB."""

    def __contains__(self, port: object) -> bool:
        return port in (80, 443) or port in range(1024, 65536)


def _tool_doors(trace: Trace) -> Doors:
    """A stream of a server's news may be silent for long; how long a call may take is bounded where it is made."""
    timeouts = Timeouts(connect=5.0, first_byte=TOOL_SILENCE, idle=TOOL_SILENCE, whole=TOOL_SILENCE)
    guard = Guard(ports=_Ports(), total=TOOL_SILENCE)
    return Doors(
        HttpClient(timeouts, connections_per_host=0, trace=trace),
        HttpClient(timeouts, connections_per_host=0, guard=guard),
    )


def _media(settings: Settings, database: Database, http: HttpClient) -> Media:
    return Media(
        database,
        settings.data / MEDIA_FOLDER,
        http,
        # For addresses that users name.
        HttpClient(Timeouts(connect=5.0, first_byte=10.0, idle=10.0), guard=Guard()),
        limits=Limits(settings.media_limit, settings.media_quota),
        resolve_url=settings.media_resolve_url,
        resolve_seconds=settings.media_resolve_timeout,
    )


def _limiter(settings: Settings) -> Limiter:
    rates = Rates(
        user=settings.rate_limit,
        guest=settings.guest_rate_limit,
        address=settings.address_rate_limit,
        attempts=settings.login_rate_limit,
        running=settings.max_generations,
        guest_running=settings.guest_max_generations,
    )
    return Limiter(rates, settings.redis_url.get_secret_value() if settings.redis_url is not None else None)


def _external(settings: Settings, http: HttpClient) -> ExternalIssuer | None:
    if settings.keys_address is None or settings.issuer is None or settings.audience is None:
        return None
    issuer = Issuer(
        settings.keys_address, settings.issuer, settings.audience, settings.jwks_algorithms, settings.admin_role
    )
    return ExternalIssuer(http, issuer)


def vault(settings: Settings) -> Vault:
    """Raises SettingsError."""
    try:
        if settings.master_key is not None:
            return Vault(settings.master_key.get_secret_value())
        return Vault.from_file(settings.data / MASTER_FILE)
    except (VaultError, OSError) as error:
        raise SettingsError(f"LOQUENT_MASTER_KEY: {error}") from error


def _notice(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        _log.critical("background work died", work=task.get_name(), exc_info=task.exception())
