"""A connection to one MCP server: made, lost, made again. Only what a server is needed for imports this file, because the SDK
is large."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import anyio
import httpx2
import mcp_types
import msgspec
import structlog
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from engine.http import HttpClient
from engine.tools import answers
from engine.tools.base import ToolError, ToolErrorCode, ToolResult
from engine.tools.outbound import AWAY, TOO_LARGE_SENTENCE, Door
from engine.tools.pipes import Pipes, Streams
from engine.tools.servers import Offer, ServerSpec, ServerState

_log = structlog.get_logger()
# What they tell of a failure holds results, arguments and addresses; how a server stands is told here.
for _name in ("mcp", "client", "httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

CONNECT_SECONDS = 15.0
# How often a server is asked for its tools again, unless it tells that they have changed.
PERIOD = 300.0
MOST_TOOLS = 500
MOST_PAGES = 50
# Bytes of one message. Of a list of tools, too.
LARGEST = 4 << 20
MOST_CALLS = 32
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0

_KEY = "loquent/idempotencyKey"
_LOST = frozenset({mcp_types.CONNECTION_CLOSED, AWAY})


class Connection:
    """`run()` keeps it. `changed` is called whenever `state`, `problem` or `offers` have changed; `offers` is None until the
    server has told for the first time what it offers."""

    def __init__(
        self, spec: ServerSpec, http: HttpClient, changed: Callable[[], None], *, pause: float = FIRST_PAUSE
    ) -> None:
        self.spec = spec
        self.state = ServerState.CONNECTING
        self.problem = ""
        self.offers: Sequence[Offer] | None = None
        self._http = http
        self._changed = changed
        self._pause = pause
        self._live: Client | None = None
        self._pipes: Pipes | None = None
        self._calls = asyncio.Semaphore(MOST_CALLS)
        self._stir = asyncio.Event()
        self._is_lost = False
        self._asked = 0
        self._answered = 0
        self._turn = asyncio.Condition()

    async def run(self) -> None:
        """Until cancelled. Whatever a server does ends here, as its state."""
        pause = self._pause
        while True:
            try:
                async with self._session() as client:
                    pause = self._pause
                    await self._follow(client)
                reason = "The server closed the connection"
            except Exception as error:  # noqa: BLE001 - the SDK has no one class for what a stranger's server makes of it
                reason = self._told(error)
            if self._pipes is not None and self._pipes.is_too_long:
                reason = TOO_LARGE_SENTENCE
            await self._become(ServerState.UNAVAILABLE, reason)
            with contextlib.suppress(TimeoutError):
                # Several processes shall not come back at once.
                async with asyncio.timeout(pause * random.uniform(0.8, 1.2)):  # noqa: S311 - no secret
                    await self._stir.wait()
            self._stir.clear()
            pause = min(pause * 2, LONGEST_PAUSE)

    def _told(self, error: Exception) -> str:
        """The reason that is shown. What nobody has foreseen is logged whole, once and not at every attempt to come back."""
        cause: BaseException = error
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        reason = _reason(cause)
        if reason is None:
            reason = f"The connection could not be kept ({type(cause).__name__})"
            if reason != self.problem:
                _log.error("tool server connection broke", server=self.spec.name, exc_info=error)
        return reason

    async def refresh(self) -> None:
        """Returns when the server has been asked anew, with whatever result."""
        self._asked += 1
        mine = self._asked
        self._stir.set()
        async with self._turn:
            await self._turn.wait_for(lambda: self._answered >= mine)

    async def call(self, name: str, arguments: Mapping[str, object], key: str) -> ToolResult:
        """Raises ToolError. Cancelling tells the server so."""
        client = self._live
        if client is None:
            raise ToolError(ToolErrorCode.UNAVAILABLE, "The server of this tool cannot be reached")
        request = mcp_types.CallToolRequest(
            params=mcp_types.CallToolRequestParams.model_validate(
                {"name": name, "arguments": msgspec.to_builtins(arguments), "_meta": {_KEY: key}}
            )
        )
        try:
            async with self._calls:
                # Not by `call_tool`: that runs patterns of the server's own schema over what it answers.
                found = await client.session.send_request(request, mcp_types.CallToolResult)
        except MCPError as error:
            return self._failed(error)
        except ValidationError as error:
            raise ToolError(ToolErrorCode.UNAVAILABLE, "The server's answer is not one of MCP") from error
        except (anyio.ClosedResourceError, anyio.BrokenResourceError, RuntimeError) as error:
            self._lose()
            raise ToolError(ToolErrorCode.UNAVAILABLE, "The connection to the server of this tool was lost") from error
        return answers.result(found)

    def _failed(self, error: MCPError) -> ToolResult:
        is_too_large = TOO_LARGE_SENTENCE in error.message or "byte limit" in error.message
        if is_too_large or (self._pipes is not None and self._pipes.is_too_long):
            raise ToolError(ToolErrorCode.TOO_LARGE, TOO_LARGE_SENTENCE) from error
        if error.code in _LOST or error.message == "Session terminated":
            self._lose()
            raise ToolError(ToolErrorCode.UNAVAILABLE, "The connection to the server of this tool was lost") from error
        if error.code == mcp_types.PARSE_ERROR:
            raise ToolError(ToolErrorCode.UNAVAILABLE, "The server's answer is not one of MCP") from error
        # It has answered, and says why not: models can mend what they are told.
        return ToolResult(answers.clean(error.message), is_error=True)

    def _lose(self) -> None:
        self._is_lost = True
        self._stir.set()

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[Client]:
        self._is_lost = False
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout(CONNECT_SECONDS):
                client = await stack.enter_async_context(
                    Client(await self._transport(stack), message_handler=self._hear, cache=None)
                )
                offers = await _listed(client, self.spec.tags)
            self._live = client
            try:
                await self._become(ServerState.AVAILABLE, "", offers)
                yield client
            finally:
                self._live = None

    async def _transport(self, stack: contextlib.AsyncExitStack) -> contextlib.AbstractAsyncContextManager[Streams]:
        if self.spec.command:
            self._pipes = Pipes(self.spec, LARGEST)
            return self._pipes.open()
        headers = {name: secret.reveal() for name, secret in self.spec.headers.items()}
        # A stream of events may be longer than the one event that answers; that has the limit of its own, and says so.
        door = Door(self._http, headers, 2 * LARGEST)
        client = httpx2.AsyncClient(transport=door, timeout=None, trust_env=False)
        await stack.enter_async_context(client)
        return streamable_http_client(self.spec.url, http_client=client, max_sse_event_size=LARGEST)  # type: ignore[return-value]

    async def _follow(self, client: Client) -> None:
        """Returns when the connection is lost."""
        async with asyncio.TaskGroup() as group:
            watching = [group.create_task(self._watch_end()), group.create_task(self._listen(client))]
            while not self._is_lost:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PERIOD):
                        await self._stir.wait()
                self._stir.clear()
                if not self._is_lost:
                    async with asyncio.timeout(CONNECT_SECONDS):
                        offers = await _listed(client, self.spec.tags)
                    await self._become(ServerState.AVAILABLE, "", offers)
            for task in watching:
                task.cancel()

    async def _watch_end(self) -> None:
        if self._pipes is not None:
            await self._pipes.ended.wait()
            self._lose()

    async def _listen(self, client: Client) -> None:
        """To the news of a server of the newer protocol; the older one sends them unasked."""
        if client.protocol_version not in mcp_types.version.MODERN_PROTOCOL_VERSIONS:
            return
        with contextlib.suppress(MCPError, RuntimeError, TimeoutError):
            async with client.listen(tools_list_changed=True) as news:
                async for _ in news:
                    self._stir.set()

    async def _hear(self, message: object) -> None:
        if isinstance(message, mcp_types.ToolListChangedNotification):
            self._stir.set()

    async def _become(self, state: ServerState, problem: str, offers: Sequence[Offer] | None = None) -> None:
        news = (state, problem, self.offers if offers is None else offers)
        if news != (self.state, self.problem, self.offers):
            if (state, problem) != (self.state, self.problem):
                _log.info("tool server", server=self.spec.name, state=state.value, problem=problem)
            self.state, self.problem, self.offers = news
            self._changed()
        async with self._turn:
            self._answered = self._asked
            self._turn.notify_all()


async def _listed(client: Client, tags: Sequence[str]) -> list[Offer]:
    found: list[Offer] = []
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        page = await client.session.list_tools(params=mcp_types.PaginatedRequestParams(cursor=cursor))
        found.extend(answers.offer(tool, tags) for tool in page.tools[: MOST_TOOLS - len(found)])
        cursor = page.next_cursor
        if not cursor or len(found) >= MOST_TOOLS:
            break
    return list({one.name: one for one in reversed(found)}.values())[::-1]


def _reason(error: BaseException) -> str | None:
    """Why a server cannot be used, without its address and without what it said; None for what no server should bring."""
    match error:
        case TimeoutError():
            return "The server did not answer in time"
        case MCPError(code=code, message=message) if code == AWAY:
            return message
        case MCPError(message=message) if TOO_LARGE_SENTENCE in message:
            return TOO_LARGE_SENTENCE
        case MCPError(code=code):
            return f"The server refused with code {code}"
        case FileNotFoundError() | PermissionError() | NotADirectoryError():
            return "The command of the server cannot be run"
        case ValidationError():
            return "The server's answer is not one of MCP"
        case (
            OSError()
            | httpx2.HTTPError()
            | httpx2.StreamError()
            | anyio.BrokenResourceError()
            | anyio.ClosedResourceError()
        ):
            return f"The connection was lost ({type(error).__name__})"
        case _:
            return None
