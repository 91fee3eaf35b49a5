"""Runs the application under uvicorn and tells the person who started it what to do next."""

from __future__ import annotations

import gc
import socket
from collections.abc import Sequence

import typer
import uvicorn

from resolvers.call import Services
from server.app import create_app
from server.services import Process
from server.settings import Settings

GRACE = 25
MOST_NAMES = 8
LARGEST_FRAME = 1_000_000
UNSPECIFIED = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - names to show, nothing is bound to them here


class _Server(uvicorn.Server):
    """Says where it is once it is there."""

    def __init__(self, config: uvicorn.Config, settings: Settings, services: Services) -> None:
        super().__init__(config)
        self._settings = settings
        self._services = services

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            models = [entry.name for entry in self._services.registry.entries()]
            typer.echo(welcome(self._settings.host, port, models))
            _settle_garbage()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._services.feed.close()
        await super().shutdown(sockets)


def serve(settings: Settings) -> int:
    """Serves until it is told to stop; the exit code. Raises SettingsError."""
    process = Process(settings)
    config = uvicorn.Config(
        create_app(settings, process),
        host=settings.host,
        port=settings.port,
        # httptools refuses requests that a proxy in front would read otherwise; the sansio sockets are the fastest.
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=LARGEST_FRAME,
        ws_max_queue=32,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )
    server = _Server(config, settings, process.services)
    server.run()
    return 0 if server.started else 1


def _settle_garbage() -> None:
    """What stands after the start stays; a request makes hardly a cycle, so the collector may look less often.

    Measured under load: about a fifth less CPU a request, and no pauses of a tenth of a second. The collector, off since the
    start, has left about a megabyte; to look for that now would hold up the first requests for a tenth of a second.
    """
    gc.freeze()
    gc.set_threshold(5_000, 10, 10)
    gc.enable()


def welcome(host: str, port: int, models: Sequence[str]) -> str:
    """What to do next, in lines."""
    host = UNSPECIFIED.get(host, host)
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    base = f"http://{host}:{port}"
    shown = ", ".join(models[:MOST_NAMES]) + (
        f" and {len(models) - MOST_NAMES} more" if len(models) > MOST_NAMES else ""
    )
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
        f"  Models       {shown or 'none yet'}",
    ]
    if models == ["demo"]:
        lines += [
            "               `demo` is a small demonstration program, not a language model. For real ones set",
            "               OPENAI_API_KEY, or OPENAI_BASE_URL to any OpenAI-compatible server (vLLM, llama.cpp, Ollama …),",
            "               or LOQUENT_MODELS to a folder of GGUF files (after: .venv/bin/pip install xllamacpp).",
        ]
    return "\n".join([*lines, ""])
