"""The `graphql-transport-ws` protocol: one receiving loop a socket, one task an operation, one send an event."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from contextlib import aclosing
from urllib.parse import urlsplit

import msgspec
import structlog
from graphql import OperationType
from starlette.types import Receive, Scope, Send

from db.base import StorageError
from graph.account import SOCKET, kept, outcome_of
from graph.errors import RequestError, new_request_id, refusal, unavailable
from graph.frames import ClientMessage, Closed, id_of, parsed, payload_of, request_of
from graph.limits import Limits
from graph.operation import Operations, Prepared, Request
from resolvers import credentials
from resolvers.access import admit
from resolvers.call import Call, Services
from resolvers.caller import Caller
from resolvers.errors import InvalidInput, Unauthenticated, Unavailable
from resolvers.identity import authenticate

log = structlog.get_logger(__name__)

PROTOCOL = "graphql-transport-ws"
_LONGEST_REASON = 123
# How long a client that is told to go may take to read that.
_FAREWELL_SECONDS = 1.0

_encoder = msgspec.json.Encoder()


class Socket:
    """One client's socket, from its handshake to its end. Whatever it started has cleaned up when `serve` returns."""

    __slots__ = (
        "_address",
        "_blocked",
        "_blocked_since",
        "_caller",
        "_credential",
        "_deadline",
        "_is_acknowledged",
        "_limits",
        "_live",
        "_operations",
        "_receive",
        "_scope",
        "_send",
        "_services",
        "_tasks",
        "_verdict",
        "_watch",
        "_watching",
        "_writing",
        "closed",
    )

    def __init__(
        self,
        operations: Operations,
        services: Services,
        limits: Limits,
        address: str,
        receive: Receive,
        send: Send,
    ) -> None:
        self._operations = operations
        self._services = services
        self._limits = limits
        self._address = address
        self._receive = receive
        self._send = send
        self._caller: Caller | None = None
        self._credential: str | None = None
        self._watching = contextlib.ExitStack()
        self._is_acknowledged = False
        self._live: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # Mutations under way: they are finished whoever leaves, as over HTTP, so that nothing stays half done.
        self._writing: set[asyncio.Task[None]] = set()
        self._scope = asyncio.timeout(None)
        self._verdict: Closed | None = None
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(limits.init_seconds, self.end, 4408, "Connection initialisation timeout")
        self._watch: asyncio.TimerHandle | None = None
        self._blocked = 0
        self._blocked_since = 0.0
        self.closed = asyncio.Event()

    async def serve(self, subprotocols: Iterable[str]) -> None:
        await self._receive()
        try:
            if PROTOCOL not in subprotocols:
                await self._send({"type": "websocket.accept"})
                await self._farewell(Closed(4406, "Only graphql-transport-ws is spoken here"))
                return
            await self._send({"type": "websocket.accept", "subprotocol": PROTOCOL})
            verdict = await self._attend()
            await self._release()
            if verdict is not None:
                await self._farewell(verdict)
        except OSError:
            # The client went away in the middle of a frame.
            pass
        finally:
            await self._release()
            self.closed.set()

    def end(self, code: int, reason: str) -> None:
        """Closes the socket from outside its own loop. The first who asks names the code."""
        if self._verdict is None:
            self._verdict = Closed(code, reason)
            with contextlib.suppress(RuntimeError):
                self._scope.reschedule(0)

    async def _attend(self) -> Closed | None:
        """Reads until the client leaves (None) or has to go."""
        try:
            async with self._scope:
                while self._verdict is None:
                    message = await self._receive()
                    if message["type"] == "websocket.disconnect":
                        return None
                    await self._handle(parsed(message))
        except TimeoutError:
            pass
        except Closed as verdict:
            return verdict
        return self._verdict

    async def _release(self) -> None:
        """Cancels all operations and waits for their clean-up."""
        self._deadline.cancel()
        self._watching.close()
        if self._watch is not None:
            self._watch.cancel()
        self._live.clear()
        for task in self._tasks - self._writing:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _farewell(self, verdict: Closed) -> None:
        reason = verdict.reason.encode()[:_LONGEST_REASON].decode(errors="ignore")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                await self._send({"type": "websocket.close", "code": verdict.code, "reason": reason})

    async def _handle(self, message: ClientMessage) -> None:
        match message.type:
            case "subscribe":
                await self._subscribe(message)
            case "complete":
                self._complete(message)
            case "ping":
                payload_of(message)
                await self._transmit('{"type":"pong"}')
            case "pong":
                payload_of(message)
            case "connection_init":
                await self._init(message)
            case _:
                raise Closed(4400, "Invalid message: unknown type")

    async def _init(self, message: ClientMessage) -> None:
        if self._is_acknowledged:
            raise Closed(4429, "Too many initialisation requests")
        payload = payload_of(message)
        try:
            self._credential = credentials.from_payload(payload)
            self._take(await authenticate(self._services, self._credential))
        except (Unauthenticated, InvalidInput) as error:
            raise Closed(4403, "Forbidden") from error
        except (StorageError, Unavailable) as error:
            raise Closed(1013, "Try again later") from error
        self._deadline.cancel()
        self._is_acknowledged = True
        if self._caller is not None:
            loop = asyncio.get_running_loop()
            left = self._caller.expires_at - time.time()
            self._deadline = loop.call_later(max(left, 0.0), self.end, 4403, "Forbidden")
        await self._transmit('{"type":"connection_ack"}')

    async def _subscribe(self, message: ClientMessage) -> None:
        id = id_of(message)
        if not self._is_acknowledged:
            raise Closed(4401, "Unauthorized")
        if self._caller is not None and self._caller.expires_at <= time.time():
            raise Closed(4403, "Forbidden")
        if id in self._live:
            raise Closed(4409, f"Subscriber for {id} already exists")
        request = request_of(message)
        if len(self._live) >= self._limits.operations_per_socket:
            sentence = f"A socket carries at most {self._limits.operations_per_socket} operations at once"
            await self._refuse(id, RequestError(sentence, "TOO_MANY_REQUESTS"), new_request_id())
            return
        task = asyncio.create_task(self._operate(id, request))
        self._live[id] = task
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    async def _caller_now(self, request_id: str) -> Caller | None:
        """Who this is and what they may do now. Raises Unauthenticated, and RequestError when that cannot be known."""
        try:
            caller = await authenticate(self._services, self._credential)
        except StorageError as error:
            raise refusal(unavailable(error, request_id)) from error
        except Unavailable as error:
            raise refusal(error) from error
        if caller != self._caller:
            self._take(caller)
        return caller

    def _take(self, caller: Caller | None) -> None:
        """From now on the socket is this caller's, for as long as they may have it."""
        self._watching.close()
        self._watching.enter_context(self._services.sign_ins.watched(caller, self._forbid))
        self._caller = caller

    def _forbid(self) -> None:
        self.end(4403, "Forbidden")

    def _complete(self, message: ClientMessage) -> None:
        task = self._live.pop(id_of(message), None)
        if task is not None and task not in self._writing:
            task.cancel()

    async def _operate(self, id: str, request: Request) -> None:
        request_id = new_request_id()
        # In the context of this task alone: what it starts is known by the operation's id, not by the socket's.
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            call = await admit(self._services, await self._caller_now(request_id), request_id, self._address)
            prepared, call = await self._operations.admit(request, call)
            await self._run(id, prepared, call)
        except Unauthenticated:
            self._forbid()
        except RequestError as error:
            if self._retire(id):
                await self._refuse(id, error, request_id)
        else:
            if self._retire(id):
                await self._transmit(_encoder.encode({"id": id, "type": "complete"}).decode())

    async def _run(self, id: str, prepared: Prepared, call: Call) -> None:
        opening = f'{{"id":{_encoder.encode(id).decode()},"type":"next","payload":'
        task = asyncio.current_task()
        if prepared.kind is OperationType.MUTATION and task is not None:
            self._writing.add(task)
        if prepared.kind is not OperationType.SUBSCRIPTION:
            with kept(prepared, call, SOCKET) as account:
                answer = await self._operations.answer(prepared, call)
                account.outcome = outcome_of(answer)
            if self._is_live(id):
                await self._transmit(f"{opening}{answer.decode()}}}")
            return
        with kept(prepared, call, SOCKET):
            async with aclosing(self._operations.events(prepared, call)) as events:
                async for answers in events:
                    if not self._is_live(id):
                        break
                    for answer in answers:
                        await self._transmit(f"{opening}{answer.decode()}}}")

    def _is_live(self, id: str) -> bool:
        """Whether the id still belongs to this operation, which may have swallowed its cancellation."""
        return self._live.get(id) is asyncio.current_task()

    def _retire(self, id: str) -> bool:
        """Frees the id before the client reads of the end, for it may use it again at once. False when it has done so."""
        if not self._is_live(id):
            return False
        del self._live[id]
        return True

    async def _refuse(self, id: str, error: RequestError, request_id: str) -> None:
        message = {"id": id, "type": "error", "payload": error.errors(request_id)}
        await self._transmit(_encoder.encode(message).decode())

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._writing.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, OSError):
            log.error("socket operation failed", exc_info=error)
            self.end(4500, "Internal server error")

    async def _transmit(self, text: str) -> None:
        """Sends one frame. A client that does not take it in time is dropped."""
        loop = asyncio.get_running_loop()
        if self._blocked == 0:
            self._blocked_since = loop.time()
        self._blocked += 1
        if self._watch is None:
            self._watch = loop.call_later(self._limits.send_seconds, self._look)
        try:
            await self._send({"type": "websocket.send", "text": text})
        finally:
            self._blocked -= 1
            if self._blocked:
                self._blocked_since = loop.time()

    def _look(self) -> None:
        """Sees whether a frame is stuck. One timer serves all frames of a while, so that a frame costs none."""
        self._watch = None
        if self._blocked == 0:
            return
        loop = asyncio.get_running_loop()
        left = self._blocked_since + self._limits.send_seconds - loop.time()
        if left <= 0:
            self.end(1013, "Slow consumer")
        else:
            self._watch = loop.call_later(left, self._look)


def address_of(scope: Scope) -> str:
    """Where a request came from; nothing when the server cannot tell."""
    client = scope.get("client")
    return client[0] if client else ""


def is_welcome(scope: Scope, origins: frozenset[str]) -> bool:
    """Whether a page of this origin may open a socket: of the same host, or named; programs send no origin."""
    headers = dict(scope["headers"])
    origin = headers.get(b"origin", b"").decode("latin-1")
    if not origin or origin in origins or "*" in origins:
        return True
    host = headers.get(b"host", b"").decode("latin-1")
    return bool(host) and urlsplit(origin).netloc.lower() == host.lower()
