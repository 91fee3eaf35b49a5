"""What it costs to know who asks, in this process and without a server: the share of a request that signing in takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table
from sqlalchemy import event

from bench.contenders import scratch
from resolvers import api_keys, credentials, sessions
from resolvers.call import Call, Services
from resolvers.identity import authenticate
from server.services import Process
from server.settings import Settings

GROUP = "auth"
LIMIT = 60.0
_TIMES, _LOOK_UPS = 20_000, 300


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU in µs, and statements, a request."""

    cpu: float
    statements: float


class _Statements:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self, *_: object) -> None:
        self.count += 1


def show() -> None:
    """Measures and prints. Remembered is the common case; looked up is what one request in some seconds costs."""
    with scratch() as folder:
        rows = asyncio.run(_measured(folder))
    table = Table(title="Signing in, a request", title_justify="left")
    for name in ("credential", "case", "CPU µs", "statements", f"under {LIMIT:.0f} µs"):
        table.add_column(name, justify="left" if name in ("credential", "case") else "right")
    for (credential, case), cost in rows.items():
        verdict = "" if case == "looked up" else "yes" if cost.cpu < LIMIT and not cost.statements else "NO"
        table.add_row(credential, case, f"{cost.cpu:,.1f}", f"{cost.statements:.2f}", verdict)
    Console(width=110).print(table)


async def _measured(folder: Path) -> dict[tuple[str, str], Cost]:
    process = Process(Settings(data=folder))
    async with process.running():
        services, statements = process.services, _Statements()
        for engine in {engine.sync_engine for engine in process._database.engines}:  # noqa: SLF001 - nothing else counts them
            event.listen(engine, "before_cursor_execute", statements)
        guest = await sessions.guest_login(Call(services, None))
        caller = await authenticate(services, guest.access_token)
        key = await api_keys.create(Call(services, caller), "bench", None, None)
        found: dict[tuple[str, str], Cost] = {}
        for name, header, value in (
            ("access token", b"authorization", f"Bearer {guest.access_token}"),
            ("API key", b"x-api-key", key.secret.reveal()),
        ):
            headers = [(b"host", b"127.0.0.1"), (b"user-agent", b"bench"), (header, value.encode())]
            found[name, "remembered"] = await _cost(partial(_ask, services, headers), _TIMES, statements)
            found[name, "looked up"] = await _cost(partial(_look_up, services, headers), _LOOK_UPS, statements)
        return found


async def _ask(services: Services, headers: list[tuple[bytes, bytes]]) -> None:
    assert await authenticate(services, credentials.from_headers(headers)) is not None


async def _look_up(services: Services, headers: list[tuple[bytes, bytes]]) -> None:
    services.sign_ins._callers.clear()  # noqa: SLF001 - as if it had been remembered for too long
    await _ask(services, headers)


async def _cost(ask: Callable[[], Coroutine[object, object, None]], times: int, statements: _Statements) -> Cost:
    await ask()
    before, began = statements.count, time.process_time()
    for _ in range(times):
        await ask()
    return Cost((time.process_time() - began) / times * 1e6, (statements.count - before) / times)
