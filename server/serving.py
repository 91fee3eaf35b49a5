"""Runs the application under uvicorn, in one process or several, and tells the person who started it what to do next."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import Generator, Sequence

import typer
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.supervisors import Multiprocess

from db.base import database_url
from server import observe
from server.app import create_app
from server.drain import SIGNALS, Drain
from server.protocols import Http, WebSockets
from server.services import Process
from server.settings import Settings, SettingsError, load
from server.siblings import meeting_place

# What is left of the half minute that a server has to leave in, once generations have had their time.
GRACE = 4
MOST_NAMES = 8
LARGEST_FRAME = 1_000_000
BACKLOG = 2048
START_SECONDS = 60
_JOIN_SECONDS = 0.1
UNSPECIFIED = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - names to show, nothing is bound to them here


class Served:
    """The application as one process serves it: told when to leave, and with a `listener` its address is told once it is there."""

    def __init__(self, settings: Settings, listener: socket.socket | None = None) -> None:
        self._settings = settings
        self._listener = listener
        self._process = Process(settings)
        self._app: ASGIApp = create_app(settings, self._process)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        services = self._process.services
        drain = Drain(services, self._process.part, seconds=self._settings.drain_seconds)

        async def started(message: Message) -> None:
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                if self._listener is not None:
                    models = [entry.name for entry in services.registry.entries()]
                    typer.echo(welcome(self._settings.host, self._listener.getsockname()[1], models))
                _settle_garbage()

        async with drain.installed():
            await self._app(scope, receive, started)


def serve(settings: Settings) -> int:
    """Serves until it is told to stop; the exit code. Raises SettingsError, StorageError."""
    if settings.workers > 1 and database_url(settings.database_address).get_backend_name() == "sqlite":
        raise SettingsError("WORKERS: SQLite has one writer; several workers need DATABASE_URL to name a PostgreSQL")
    with _listening(settings) as listener:
        if settings.workers > 1:
            return _serve_by_many(settings, listener)
        config = _config(settings, Served(settings, listener))
        server = uvicorn.Server(config)
        server.run(sockets=[listener])
        return 0 if server.started else 1


def application() -> Served:
    """What each of several workers serves: settings are read once more, because a worker shares nothing with its parent."""
    gc.disable()
    settings, _ = load()
    observe.configure(settings.log_level, settings.log_format)
    return Served(settings)


class _Parent(Multiprocess):
    """Starts the workers, and new ones for those that die."""

    def __init__(self, config: uvicorn.Config, settings: Settings, listener: socket.socket) -> None:
        super().__init__(config, sockets=[listener])
        self._settings = settings
        self._listener = listener

    def init_processes(self) -> None:
        super().init_processes()
        if all(process.wait_until_ready(START_SECONDS, self.should_exit) for process in self.processes):
            typer.echo(welcome(self._settings.host, self._listener.getsockname()[1]))

    def join_all(self) -> None:
        """Returns once all have left. Told once more to stop, it tells them so, and they wait for nothing."""
        for process in self.processes:
            while process.exitcode is None:
                process.process.join(_JOIN_SECONDS)
                if any(number in SIGNALS for number in self.signal_queue):
                    self.signal_queue.clear()
                    self.terminate_all()


def _serve_by_many(settings: Settings, listener: socket.socket) -> int:
    # Once, before there are several who would do it at the same time.
    asyncio.run(_prepare(settings))
    with meeting_place():
        return _parent(settings, listener)


def _parent(settings: Settings, listener: socket.socket) -> int:
    config = _config(settings, "server.serving:application", workers=settings.workers, factory=True)
    parent = _Parent(config, settings, listener)
    parent.run()
    return 0 if all(process.exitcode in (0, None) for process in parent.processes) else 1


async def _prepare(settings: Settings) -> None:
    process = Process(settings)
    async with process.opened():
        await process.prepare()


def _config(settings: Settings, app: ASGIApp | str, *, workers: int = 1, factory: bool = False) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        factory=factory,
        workers=workers,
        host=settings.host,
        port=settings.port,
        # httptools refuses requests that a proxy in front would read otherwise; the sansio sockets are the fastest.
        http=Http,
        ws=WebSockets,
        ws_max_size=LARGEST_FRAME,
        ws_max_queue=32,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )


@contextlib.contextmanager
def _listening(settings: Settings) -> Generator[socket.socket]:
    """Raises SettingsError when nothing can listen there."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # Named as TCP, so that an event loop switches Nagle's algorithm off: it would hold each answer back for 40 ms.
        listener = socket.socket(family, kind, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Before anybody is told the address: who comes early stands in line.
        listener.listen(BACKLOG)
    except OSError as error:
        raise SettingsError(f"HOST, PORT: cannot listen on {settings.host} port {settings.port}: {error}") from error
    with listener:
        yield listener


def _settle_garbage() -> None:
    """What stands after the start stays; a request makes hardly a cycle, so the collector may look less often.

    Measured under load: about a fifth less CPU a request, and no pauses of a tenth of a second. The collector, off since the
    start, has left about a megabyte; to look for that now would hold up the first requests for a tenth of a second.
    """
    gc.freeze()
    gc.set_threshold(5_000, 10, 10)
    gc.enable()


def welcome(host: str, port: int, models: Sequence[str] | None = None) -> str:
    """What to do next, in lines. Without `models` they are not spoken of."""
    host = UNSPECIFIED.get(host, host)
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    base = f"http://{host}:{port}"
    lines = [
        "",
        "Loquent is ready.",
        "",
        f"  GraphQL      {base}/graphql   (POST; subscriptions over ws://{host}:{port}/graphql)",
        f"  Playground   {base}/graphql   (open it in a browser)",
        f"  REST         {base}/v1        (the base_url for an OpenAI client)",
        f"  Health       {base}/healthz   {base}/ready",
        "",
        f"  Sign in      curl -X POST {base}/llm/auth/guest-login",
    ]
    if models is not None:
        shown = ", ".join(models[:MOST_NAMES])
        more = f" and {len(models) - MOST_NAMES} more" if len(models) > MOST_NAMES else ""
        lines.append(f"  Models       {shown + more or 'none yet'}")
    if models == ["demo"]:
        lines += [
            "               `demo` is a small demonstration program, not a language model. For real ones set",
            "               OPENAI_API_KEY, or OPENAI_BASE_URL to any OpenAI-compatible server (vLLM, llama.cpp, Ollama …),",
            "               or LOQUENT_MODELS to a folder of GGUF files (after: .venv/bin/pip install xllamacpp).",
        ]
    return "\n".join([*lines, ""])
