"""How an operation went, for the account that is kept of it."""

import asyncio
import contextlib
from collections.abc import Generator

from graph.errors import RequestError
from graph.operation import Abandoned, Prepared
from resolvers import account
from resolvers.account import SOCKET as SOCKET
from resolvers.account import Account
from resolvers.call import Call

_LONGEST_NAME = 64


def name_of(prepared: Prepared) -> str | None:
    """What the client calls its operation."""
    node = prepared.operation.node.name
    return node.value[:_LONGEST_NAME] if node is not None else None


@contextlib.contextmanager
def kept(prepared: Prepared, call: Call, transport: str) -> Generator[Account]:
    """Accounts for an operation that is carried out within the block."""
    with account.kept(call, prepared.kind.value, name_of(prepared), transport) as found:
        try:
            yield found
        except BaseException as error:
            found.outcome = _outcome(error)
            raise


def outcome_of(answer: bytes) -> str:
    """`data` is an object or null, so only an answer with errors ends in a list."""
    return "error" if answer.endswith(b"]}") else "ok"


def _outcome(error: BaseException) -> str:
    if isinstance(error, RequestError):
        return "refused"
    # Whoever closes a stream early throws the last one of these in.
    return "left" if isinstance(error, asyncio.CancelledError | Abandoned | GeneratorExit | OSError) else "failed"
