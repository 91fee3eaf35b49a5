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

from db.base import is_storable, new_id
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
from engine.resumption import Resumed, Verdict, Waiting
from engine.run import Run
from engine.tools.base import ToolError, ToolErrorCode
from engine.tools.book import Book
from engine.tools.toolset import Toolset
from engine.transcript import BREAK, Said, Transcript

_log = structlog.get_logger()

# With these a model has not said all that it wanted to call.
_CUT = frozenset({FinishReason.LENGTH, FinishReason.CONTENT_FILTER})


async def drive(run: Run, tools: Toolset) -> Terminal | Waiting:
    """Drives a run to its end, or to where it must wait. Raises what `turn.run` raises."""
    return await _Loop(run, tools).end()


class _Loop:
    def __init__(self, run: Run, tools: Toolset) -> None:
        self._run = run
        self._tools = tools
        self._book = Book(run, tools.database)
        self._turns = anyio.Semaphore(tools.bounds.at_once)
        self._own = _functions(run.spec.request) - {tool.name for tool in tools.tools}

    async def end(self) -> Terminal | Waiting:
        run, turn = self._run, 0
        messages = list(run.spec.request.messages)
        if run.spec.resumed is not None:
            turn, messages = run.spec.resumed.turn, list(run.spec.resumed.messages)
            end = await self._go_on(run.spec.resumed, messages)
            if end is not None:
                return end
        while True:
            turn += 1
            await self._ask(messages, turn)
            said, reason = run.transcript.last, run.transcript.finish_reason
            asked = self._ours(said)
            if not asked or reason in _CUT:
                return Completed(finish_reason=reason or FinishReason.STOP)
            if turn >= self._tools.bounds.turns:
                return Incomplete(finish_reason=FinishReason.TOOL_CALLS)
            waiting = [call for call in asked if self._must_wait(call)]
            await self._book.begin(said, asked, waiting)
            run.end_turn(asked)
            messages.append(prompt.asked(said.text, said.tool_calls))
            await self._call([call for call in asked if call not in waiting])
            if waiting:
                return Waiting(messages, turn, waiting)
            end = await self._answered(messages, said)
            if end is not None:
                return end

    def _ours(self, said: Said) -> list[ToolCallDelta]:
        return [call for call in said.tool_calls if call.name not in self._own]

    def _must_wait(self, call: ToolCallDelta) -> bool:
        """Nobody is asked about a call that would be refused whatever they say."""
        tool = self._tools.find(call.name)
        if tool is None or not self._tools.needs_leave(tool.name):
            return False
        try:
            self._tools.toolbox.check(tool, arguments_of(call.arguments))
        except ToolError:
            return False
        return True

    async def _go_on(self, resumed: Resumed, messages: list[ChatMessage]) -> Terminal | None:
        """The end of the turn that had to wait."""
        said = self._run.transcript.last
        self._run.end_turn(self._ours(said))
        messages[-1] = prompt.asked(said.text, [_changed(call, resumed) for call in said.tool_calls])
        await self._call([call for call in self._run.calls if call.id in resumed.verdicts])
        return await self._answered(messages, said)

    async def _answered(self, messages: list[ChatMessage], said: Said) -> Terminal | None:
        """Puts what tools gave behind what the model had said; how the run ends, if it does here."""
        run = self._run
        messages += [prompt.answered(run.transcript.results[call.id]) for call in run.calls]
        if len(run.calls) < len(said.tool_calls):
            # The rest is for the client to call.
            return Completed(finish_reason=FinishReason.TOOL_CALLS)
        if self._tools.afford is not None and not await self._tools.afford(messages, run.cost or 0):
            return Incomplete()
        return None

    async def _ask(self, messages: Sequence[ChatMessage], turn_number: int) -> None:
        run, spec = self._run, self._run.spec
        options = dict(spec.request.options)
        if turn_number > 1:
            # Who must call something has done so.
            options.pop("tool_choice", None)
        if 1 < turn_number == self._tools.bounds.turns:
            # It has had its turns: now it is to answer with what it has.
            options["tool_choice"] = "none"
        run.request = replace(spec.request, messages=tuple(messages), options=options, wants_raw=False)
        await turn.run(_Numbered(spec.provider, run.transcript), run.request, run.journal, run.transcript, None)

    async def _call(self, asked: Sequence[ToolCallDelta]) -> None:
        """Runs these side by side."""
        async with anyio.create_task_group() as group:
            for place, call in enumerate(asked):
                group.start_soon(self._called, call, place)

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
        verdict = self._verdict(call)
        if verdict is not None:
            told.arguments = verdict.arguments
            if not verdict.is_approved:
                raise ToolError(ToolErrorCode.REJECTED, f"The user did not allow this call{_because(verdict.reason)}")
        arguments = arguments_of(told.arguments)
        try:
            async with asyncio.timeout(self._tools.bounds.seconds):
                found = await self._tools.toolbox.call(tool, arguments, key=call.id)
        except TimeoutError as error:
            raise ToolError(ToolErrorCode.TIMEOUT, "The tool took too long") from error
        except ToolError:
            raise
        except Exception as error:
            # Whatever a tool brings ends its own call: others run beside it, and may have done half of something by now.
            _log.exception("tool call broke", generation_id=self._run.spec.id, tool=tool.name)
            raise ToolError(ToolErrorCode.INTERNAL, "Something went wrong on our side") from error
        told.output, told.is_error = storable(found.text), found.is_error

    def _verdict(self, call: ToolCallDelta) -> Verdict | None:
        resumed = self._run.spec.resumed
        return resumed.verdicts.get(call.id) if resumed is not None else None


def _changed(call: ToolCallDelta, resumed: Resumed) -> ToolCallDelta:
    """As a person has changed it: what the model reads of it is what was run."""
    verdict = resumed.verdicts.get(call.id)
    return call if verdict is None else msgspec.structs.replace(call, arguments=verdict.arguments)


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


def storable(text: str) -> str:
    """Without what no database of ours can keep."""
    if is_storable(text):
        return text
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def arguments_of(written: str) -> dict[str, object]:
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
