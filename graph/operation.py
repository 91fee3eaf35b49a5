"""Runs one operation over a schema: what a request asks becomes bytes to answer with. Both transports stand on this."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import msgspec
import strawberry
from graphql import ExecutionResult, GraphQLError, OperationType
from graphql.execution import Executor, create_source_event_stream
from graphql.execution.async_iterables import aclosing
from strawberry.execution import optimized_is_awaitable

from graph.context import Context
from graph.documents import NO_DOCUMENTS, Document, Documents, Operation, Projection
from graph.errors import RequestError, located, present, present_exception, refusal
from graph.fanout import Told, Write, bare, place, position_of
from graph.limits import Limits
from graph.projection import projection_of
from resolvers.access import check_storable, require_room, weigh
from resolvers.call import Call
from resolvers.errors import InvalidInput, RateLimited

T = TypeVar("T")
Leave = Callable[[], Coroutine[object, object, None]]

# After so many answers of one subscription the others have their turn.
ANSWERS_A_TURN = 64

_encoder = msgspec.json.Encoder()
_PREFIX = "sha256:"
# So many brackets cannot nest too deeply.
_FLAT = 60


class Request(msgspec.Struct, rename="camel"):
    """A GraphQL request as it comes over HTTP and in a `subscribe` message; unknown fields are passed over."""

    query: str | None = None
    operation_name: str | None = None
    variables: dict[str, Any] | None = None
    extensions: dict[str, Any] | None = None
    document_id: str | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that may be executed, and what it costs."""

    document: Document
    operation: Operation
    name: str | None
    variables: Mapping[str, object]
    cost: int = 0

    @property
    def kind(self) -> OperationType:
        return self.operation.kind


class Abandoned(Exception):
    """Nobody waits for the answer any more."""


class Operations:
    """The operations of one schema."""

    def __init__(
        self,
        schema: strawberry.Schema,
        limits: Limits,
        *,
        is_introspection_on: bool = True,
        manifest: Mapping[str, str] = NO_DOCUMENTS,
        is_manifest_all: bool = False,
    ) -> None:
        """Raises ManifestError."""
        self._documents = Documents(
            schema,
            limits,
            is_introspection_on=is_introspection_on,
            manifest=manifest,
            is_manifest_all=is_manifest_all,
        )
        self._limits = limits

    def prepare(self, request: Request) -> Prepared:
        """Raises RequestError."""
        document = self._document(request)
        operation = document.operation(request.operation_name or None)
        variables = request.variables or {}
        cost = self._documents.charge(document, operation, variables)
        return Prepared(document, operation, request.operation_name or None, variables, cost)

    async def admit(self, request: Request, call: Call) -> tuple[Prepared, Call]:
        """A request whose call has been counted, and the call once it is counted for its cost too. Raises RequestError."""
        try:
            require_room(call)
            prepared = self.prepare(request)
            call = await weigh(call, prepared.cost)
            require_room(call)
        except RateLimited as error:
            raise refusal(error) from error
        return prepared, call

    def _document(self, request: Request) -> Document:
        id = _persisted(request)
        if id is not None:
            return self._documents.by_id(id, request.query)
        if not request.query:
            raise RequestError("The request names no document: `query` is missing")
        return self._documents.by_source(request.query)

    async def answer(self, prepared: Prepared, call: Call, leave: Leave | None = None) -> bytes:
        """Executes a query or a mutation.

        `leave` returns when nobody waits for the answer any more: the execution is cancelled then, and Abandoned raised.
        Raises RequestError when the variables do not fit, and when it takes too long.
        """
        result = self._executor(prepared, call).execute_operation()
        if inspect.isawaitable(result):
            result = await self._in_time(result, leave)
        return encode(cast("ExecutionResult", result), call.request_id)

    async def _in_time(self, work: Awaitable[T], leave: Leave | None = None) -> T:
        watch = None if leave is None else asyncio.ensure_future(leave())
        try:
            async with asyncio.timeout(self._limits.operation_seconds) as scope:
                if watch is not None:
                    watch.add_done_callback(lambda done: None if done.cancelled() else scope.reschedule(0))
                return await work
        except TimeoutError as error:
            if watch is not None and watch.done():
                raise Abandoned from error
            message = f"The operation took longer than {self._limits.operation_seconds:g} seconds"
            raise RequestError(message, "TIMEOUT", status=504) from error
        finally:
            if watch is not None:
                watch.cancel()

    async def events(
        self, prepared: Prepared, call: Call, write: Write = bare, last_event_id: str | None = None
    ) -> AsyncGenerator[Sequence[bytes]]:
        """The answers of a subscription in the form of a transport: a few at once, where several are there already.

        Raises RequestError when the subscription cannot start, and when its source fails.
        """
        executor = self._executor(prepared, call, last_event_id)
        source = await self._source(executor, call)
        project = projection_of(prepared.operation, executor)
        seen = 0
        async with aclosing(source), aclosing(self._answers(executor, source, project, write, call)) as found:
            async for answers in found:
                yield answers
                seen += len(answers)
                if seen >= ANSWERS_A_TURN:
                    seen = 0
                    # With a log that is all there and a client that reads fast, nothing else makes this loop wait.
                    await asyncio.sleep(0)

    async def _answers(
        self,
        executor: Executor[None],
        source: AsyncIterable[object],
        project: Projection | None,
        write: Write,
        call: Call,
    ) -> AsyncGenerator[Sequence[bytes]]:
        iterator, position = aiter(source), position_of(executor)
        while (told := await _next(iterator, call)) is not None:
            answers = told.written(project, write, position) if project is not None else None
            if answers is None:
                for event in told:
                    answer = await self._event(executor, project, event, call)
                    yield (write(answer, place(event, position)),)
            else:
                for start in range(0, len(answers), ANSWERS_A_TURN):
                    yield answers[start : start + ANSWERS_A_TURN]

    async def _event(self, executor: Executor[None], projection: Projection | None, event: object, call: Call) -> bytes:
        if projection is not None:
            projected = projection(event)
            if projected is not None:
                return projected
        single = executor.build_per_event_executor(event)
        single.context_value = Context.of(call)
        result = single.execute_operation(False)
        if inspect.isawaitable(result):
            result = await self._in_time(result)
        return encode(cast("ExecutionResult", result), call.request_id)

    async def _source(self, executor: Executor[None], call: Call) -> AsyncIterable[object]:
        source = create_source_event_stream(executor)
        if inspect.isawaitable(source):
            source = await self._in_time(source)
        if isinstance(source, ExecutionResult):
            errors = source.errors or []
            raise RequestError.of((present(error, call.request_id) for error in errors), is_well_formed=False)
        return cast("AsyncIterable[object]", source)

    def _executor(self, prepared: Prepared, call: Call, last_event_id: str | None = None) -> Executor[None]:
        executor = Executor.build(
            self._documents.schema,
            prepared.document.ast,
            context_value=Context.of(call, last_event_id),
            raw_variable_values=dict(prepared.variables),
            operation_name=prepared.name,
            is_awaitable=optimized_is_awaitable,  # type: ignore[arg-type] # it says bool where a guard is asked for
            hide_suggestions=self._documents.hides_suggestions,
        )
        if isinstance(executor, list):
            raise RequestError.of(located(error, "BAD_USER_INPUT") for error in executor)
        return executor


async def _next(iterator: AsyncIterator[object], call: Call) -> Told | None:
    """What a source gives next; None when it has ended. Raises RequestError when it fails."""
    try:
        event = await anext(iterator)
    except StopAsyncIteration:
        return None
    except Exception as error:
        # Whatever a source raises ends this subscription alone.
        raise RequestError.of([present_exception(error, call.request_id)], is_well_formed=False) from error
    return event if isinstance(event, Told) else Told((event,))


def encode(result: ExecutionResult, request_id: str) -> bytes:
    """The answer to an operation that was executed."""
    if not result.errors:
        try:
            return _encoder.encode({"data": result.data})
        except (TypeError, ValueError, OverflowError) as error:
            # A scalar gave something that JSON cannot hold.
            failed = GraphQLError("", original_error=error)
            return _encoder.encode({"data": None, "errors": [present(failed, request_id)]})
    errors = [present(error, request_id) for error in result.errors]
    return _encoder.encode({"data": result.data, "errors": errors})


def refuse(error: RequestError, request_id: str) -> bytes:
    """The answer to a request that was not executed."""
    return _encoder.encode({"errors": error.errors(request_id)})


def decode(decoder: msgspec.json.Decoder[Request], body: bytes | msgspec.Raw) -> Request:
    """Raises RequestError for whatever is not a request."""
    raw = bytes(body)
    try:
        request = decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise RequestError(f"The request has the wrong shape: {error}") from error
    except RecursionError as error:
        raise RequestError("The request is nested too deeply") from error
    except ValueError as error:
        raise RequestError("The request is not valid JSON in UTF-8") from error
    # Few brackets cannot nest deeply, and without an escape no text can hold a NUL: most requests need no walk.
    if b"\\u" in raw or raw.count(b"{") + raw.count(b"[") > _FLAT:
        check(request)
    return request


def check(request: Request) -> None:
    """Raises RequestError when a request carries text or depth that is refused everywhere."""
    try:
        for name in ("query", "operation_name", "document_id", "variables", "extensions"):
            check_storable(getattr(request, name), name)
    except InvalidInput as error:
        raise RequestError(error.message) from error


def _persisted(request: Request) -> str | None:
    """The id of the document that a request asks for by an id: a hash, or what a manifest names it. Raises RequestError."""
    if request.document_id is not None:
        return request.document_id.removeprefix(_PREFIX)
    persisted = request.extensions.get("persistedQuery") if request.extensions else None
    if persisted is None:
        return None
    if not isinstance(persisted, dict) or persisted.get("version") != 1:
        raise RequestError("persistedQuery must be an object with version 1")
    digest = persisted.get("sha256Hash")
    if not isinstance(digest, str):
        raise RequestError("persistedQuery.sha256Hash must be a string")
    return digest
