"""A run with tools of ours: the model is asked, what it calls is run, and it is asked again, until it answers.

Bounded by turns, by time, and by what its user can pay.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

import anyio
import msgspec
import structlog

from db.base import new_id
from engine import prompt, turn
from engine.events import (
    Completed,
    Delta,
    FinishReason,
    Incomplete,
    Terminal,
    TextDelta,
    ToolCallDelta,
    ToolCallFinished,
)
from engine.providers.base import ChatMessage, ChatRequest, Chunk, ModelInfo, Provider
from engine.run import Run
from engine.tools.base import ToolError, ToolErrorCode
from engine.tools.book import Book
from engine.tools.toolset import Toolset
from engine.transcript import BREAK, Transcript

_log = structlog.get_logger()

# With these a model has not said all that it wanted to call.
_CUT = frozenset({FinishReason.LENGTH, FinishReason.CONTENT_FILTER})


async def drive(run: Run, tools: Toolset) -> Terminal:
    """Drives a run to its end. Raises what `turn.run` raises."""
    return await _Loop(run, tools).end()


class _Loop:
    def __init__(self, run: Run, tools: Toolset) -> None:
        self._run = run
        self._tools = tools
        self._book = Book(run, tools.database)
        self._turns = anyio.Semaphore(tools.bounds.at_once)
        self._own = _functions(run.spec.request) - {tool.name for tool in tools.tools}

    async def end(self) -> Terminal:
        messages, turns = list(self._run.spec.request.messages), self._tools.bounds.turns
        for left in reversed(range(turns)):
            await self._ask(messages, is_first=left == turns - 1, is_last=not left)
            said, reason = self._run.transcript.last, self._run.transcript.finish_reason
            asked = [call for call in said.tool_calls if call.name not in self._own]
            if not asked or reason in _CUT:
                return Completed(finish_reason=reason or FinishReason.STOP)
            if not left:
                break
            await self._book.begin(said, asked)
            self._run.end_turn(asked)
            messages.append(prompt.asked(said.text, said.tool_calls))
            messages += await self._call(asked)
            if len(asked) < len(said.tool_calls):
                # The rest is for the client to call.
                return Completed(finish_reason=FinishReason.TOOL_CALLS)
            if self._tools.afford is not None and not await self._tools.afford(messages, self._run.cost or 0):
                return Incomplete()
        return Incomplete(finish_reason=FinishReason.TOOL_CALLS)

    async def _ask(self, messages: Sequence[ChatMessage], *, is_first: bool, is_last: bool) -> None:
        run, spec = self._run, self._run.spec
        options = dict(spec.request.options)
        if not is_first:
            # Who must call something has done so.
            options.pop("tool_choice", None)
        if is_last and not is_first:
            # It has had its turns: now it is to answer with what it has.
            options["tool_choice"] = "none"
        run.request = replace(spec.request, messages=tuple(messages), options=options, wants_raw=False)
        await turn.run(_Numbered(spec.provider, run.transcript), run.request, run.journal, run.transcript, None)

    async def _call(self, asked: Sequence[ToolCallDelta]) -> list[ChatMessage]:
        """Runs these side by side; what the model is told of each, in their order."""
        async with anyio.create_task_group() as group:
            for place, call in enumerate(asked):
                group.start_soon(self._called, call, place)
        results = self._run.transcript.results
        return [prompt.answered(results[call.id]) for call in asked]

    async def _called(self, call: ToolCallDelta, place: int) -> None:
        told = ToolCallFinished(index=call.index, id=call.id, name=call.name, arguments=call.arguments)
        try:
            if place >= self._tools.bounds.calls:
                raise ToolError(ToolErrorCode.UNAVAILABLE, "Too many calls at once; call fewer")
            async with self._turns:
                await self._result(call, told)
        except ToolError as error:
            told.output, told.is_error, told.code = error.message, True, error.code
        await self._book.end(told)
        self._run.transcript.add(told)
        self._run.journal.append((told,))

    async def _result(self, call: ToolCallDelta, told: ToolCallFinished) -> None:
        """Raises ToolError."""
        tool = self._tools.find(call.name)
        if tool is None:
            raise ToolError(ToolErrorCode.NOT_FOUND, f"There is no tool {call.name!r}")
        arguments = _arguments(call.arguments)
        try:
            async with asyncio.timeout(self._tools.bounds.seconds):
                found = await self._tools.toolbox.call(tool, arguments, key=call.id)
        except TimeoutError as error:
            raise ToolError(ToolErrorCode.TIMEOUT, "The tool took too long") from error
        except ToolError:
            raise
        except Exception as error:
            _log.exception("tool call broke", generation_id=self._run.spec.id, tool=tool.name)
            raise ToolError(ToolErrorCode.INTERNAL, "Something went wrong on our side") from error
        told.output, told.is_error = found.text, found.is_error


def _arguments(written: str) -> dict[str, object]:
    """Raises ToolError for what is no JSON object."""
    try:
        return msgspec.json.decode(written or "{}", type=dict[str, object])
    except (msgspec.DecodeError, RecursionError) as error:
        raise ToolError(ToolErrorCode.ARGUMENTS, f"The arguments must be a JSON object: {error}") from error


def _functions(request: ChatRequest) -> frozenset[str]:
    """The names of all that the model may call."""
    tools = request.options.get("tools")
    functions = [one.get("function") for one in tools if isinstance(one, dict)] if isinstance(tools, list) else []
    return frozenset(str(one.get("name")) for one in functions if isinstance(one, dict))


class _Numbered:
    """An upstream whose calls are numbered on through the turns of a run, each under an id of ours, as no two have."""

    def __init__(self, provider: Provider, transcript: Transcript) -> None:
        self._provider = provider
        self._first = len(transcript.tool_calls)
        self._begun: set[int] = set()
        self._is_apart = bool(transcript.texts)

    @property
    def name(self) -> str:
        return self._provider.name

    @property
    def origin(self) -> str:
        return self._provider.origin

    async def models(self) -> Sequence[ModelInfo]:
        return await self._provider.models()

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk]:
        async with aclosing(self._provider.stream(request)) as chunks:
            async for chunk in chunks:
                chunk.deltas = [numbered for delta in chunk.deltas for numbered in self._numbered(delta)]
                yield chunk

    def _numbered(self, delta: Delta) -> list[Delta]:
        if isinstance(delta, TextDelta) and self._is_apart:
            self._is_apart = False
            return [TextDelta(text=BREAK), delta]
        if isinstance(delta, ToolCallDelta):
            delta.index += self._first
            if delta.index not in self._begun:
                self._begun.add(delta.index)
                delta.id = new_id("call")
        return [delta]

    async def close(self) -> None:
        """It is another's."""
