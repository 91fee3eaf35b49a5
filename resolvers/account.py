"""What is kept of each operation: a count, its time, a span, and over a socket its one line in the log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator
from dataclasses import dataclass

import structlog

from engine.trace import Side
from resolvers.call import Call

_log = structlog.get_logger()

SOCKET = "websocket"


@dataclass(slots=True)
class Account:
    """How an operation goes. `outcome`: ok, error (it was executed, and something failed), refused, left, failed."""

    outcome: str = "ok"


@contextlib.contextmanager
def kept(call: Call, kind: str, name: str | None, transport: str) -> Generator[Account]:
    """Accounts for an operation that is carried out within the block. `name` is what the client calls it."""
    services, account, began = call.services, Account(), time.perf_counter()
    attributes = {"graphql.operation.type": kind} | ({"graphql.operation.name": name} if name else {})
    with services.trace.span(f"GraphQL {kind}", Side.INTERNAL, attributes) as span:
        try:
            yield account
        finally:
            seconds = time.perf_counter() - began
            if account.outcome != "ok":
                span.fail(account.outcome)
            services.meter.operations.add(kind, transport, account.outcome)
            services.meter.operation_seconds.add(kind, transport, value=seconds)
            if transport == SOCKET:
                _tell(call, kind, name, account.outcome, seconds)


def _tell(call: Call, kind: str, name: str | None, outcome: str, seconds: float) -> None:
    caller, ms = call.caller, round(seconds * 1000, 3)
    who = {"caller": caller.label, "user_id": caller.user_id} if caller is not None else {}
    _log.info("operation", kind=kind, name=name, outcome=outcome, ms=ms, request_id=call.request_id, **who)
