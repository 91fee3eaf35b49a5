"""The box of tools: what may be offered, and what stands between a model and a tool."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime

import anyio
import pytest

from engine.tools import clock
from engine.tools.base import Tool, ToolError, ToolErrorCode, ToolResult
from engine.tools.box import LARGEST_ARGUMENTS, LONGEST_RESULT, Box, Entry

pytestmark = pytest.mark.anyio

ANY: Mapping[str, object] = {"type": "object"}


def tool(*, parameters: Mapping[str, object] = ANY, words: Sequence[str] = ()) -> Tool:
    return Tool("tool_1", "shell", "Runs a command", parameters, disallowed_words=words)


def box_of(
    one: Tool,
    run: Callable[[Mapping[str, object], str], Awaitable[ToolResult]] | None,
    *,
    is_enabled: bool = True,
    patience: float = 5,
) -> Box:
    box = Box(patience=patience)
    box.fill([Entry(one, run, is_enabled)])
    return box


async def echo(arguments: Mapping[str, object], _key: str) -> ToolResult:
    return ToolResult(str(dict(arguments)))


async def failure(box: Box, one: Tool, arguments: Mapping[str, object]) -> tuple[ToolErrorCode, str]:
    with pytest.raises(ToolError) as caught:
        await box.call(one, arguments, key="call_1")
    return caught.value.code, caught.value.message


async def test_two_tools_need_no_server() -> None:
    box = Box()
    assert [(one.name, one.server, one.needs_approval) for one in box.enabled()] == [
        ("calculator", "built-in", False),
        ("current_time", "built-in", False),
    ]
    for one in box.enabled():
        assert box.find(one.name) is box.find(one.id) is one
        assert one.id.startswith("tool_")
    assert [one.id for one in Box().enabled()] == [one.id for one in box.enabled()]


async def test_current_time_is_told_for_a_zone() -> None:
    moment = datetime(2026, 7, 1, 22, 30, 15, 999, UTC)
    assert clock.told(moment, "Europe/Berlin") == ToolResult(
        "2026-07-02T00:30:15+02:00 (Thursday, Europe/Berlin)",
        structured={
            "time": "2026-07-02T00:30:15+02:00",
            "day": "Thursday",
            "timezone": "Europe/Berlin",
            "unix": int(moment.timestamp()),
        },
    )
    box = Box()
    now = box.find("current_time")
    assert now is not None
    found = await box.call(now, {}, key="call_1")
    assert found.structured["timezone"] == "UTC"


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", "/etc/passwd", "Europe", "Europe/Berlin\0"])
async def test_a_zone_that_is_none_is_an_argument_at_fault(zone: str) -> None:
    box = Box()
    now = box.find("current_time")
    assert now is not None
    assert await failure(box, now, {"timezone": zone}) == (
        ToolErrorCode.ARGUMENTS,
        "No time zone has this name; write it as in Europe/Berlin",
    )


async def test_arguments_must_fit_the_schema() -> None:
    asked: list[object] = []

    async def run(arguments: Mapping[str, object], _key: str) -> ToolResult:
        asked.append(arguments)
        return ToolResult("done")

    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    one = tool(parameters=schema)
    assert await failure(box_of(one, run), one, {"n": "many"}) == (
        ToolErrorCode.ARGUMENTS,
        "The arguments do not fit the tool: n: 'many' is not of type 'integer'",
    )
    assert asked == []
    assert await box_of(one, run).call(one, {"n": 1}, key="call_1") == ToolResult("done")
    assert asked == [{"n": 1}]


async def test_arguments_are_bounded() -> None:
    code, message = await failure(box_of(tool(), echo), tool(), {"text": "x" * LARGEST_ARGUMENTS})
    assert (code, message) == (ToolErrorCode.ARGUMENTS, f"The arguments are larger than {LARGEST_ARGUMENTS} bytes")


async def test_a_schema_that_cannot_be_used_makes_no_call() -> None:
    one = tool(parameters={"type": 12})
    assert await failure(box_of(one, echo), one, {}) == (
        ToolErrorCode.UNAVAILABLE,
        "The schema of the tool shell cannot be used",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {"command": "sudo rm -rf /"},
        {"command": "RM  -RF /"},
        {"command": ["rm", "-rf", "/"]},
        {"nested": [{"deep": {"rm -rf": 1}}]},
        {"command": "r\u200bm -rf /"},
        {"command": "ｒｍ -rf /"},
    ],
)
async def test_a_disallowed_word_stops_a_call_before_it_begins(arguments: Mapping[str, object]) -> None:
    asked: list[object] = []

    async def run(arguments: Mapping[str, object], _key: str) -> ToolResult:
        asked.append(arguments)
        return ToolResult("done")

    one = tool(words=["drop table", "rm -rf"])
    assert await failure(box_of(one, run), one, arguments) == (
        ToolErrorCode.FILTERED,
        "The arguments of this call hold a word that is disallowed for the tool shell",
    )
    assert asked == []


async def test_a_disallowed_word_in_a_result_keeps_the_result_back() -> None:
    one = tool(words=["(?i)menlo"])

    async def run(arguments: Mapping[str, object], _key: str) -> ToolResult:
        return ToolResult("fine", structured={"company": "MENLO Research"})

    assert await failure(box_of(one, run), one, {}) == (
        ToolErrorCode.FILTERED,
        "The result of this call holds a word that is disallowed for the tool shell",
    )


async def test_a_long_result_is_cut_and_says_so() -> None:
    async def run(arguments: Mapping[str, object], _key: str) -> ToolResult:
        return ToolResult("x" * (LONGEST_RESULT + 7), is_error=True)

    found = await box_of(tool(), run).call(tool(), {}, key="call_1")
    assert found == ToolResult("x" * LONGEST_RESULT + "\n[7 more characters were left out]", is_error=True)


async def test_a_slow_tool_is_given_up() -> None:
    ended = anyio.Event()

    async def run(arguments: Mapping[str, object], _key: str) -> ToolResult:
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()
        return ToolResult("late")

    with anyio.fail_after(5):
        found = await failure(box_of(tool(), run, patience=0.05), tool(), {})
        await ended.wait()
    assert found == (ToolErrorCode.TIMEOUT, "The tool shell gave no result within 0.05 seconds")


async def test_a_tool_may_be_switched_off_taken_away_or_out_of_reach() -> None:
    assert await failure(box_of(tool(), echo, is_enabled=False), tool(), {}) == (
        ToolErrorCode.DISABLED,
        "The tool shell is switched off",
    )
    assert await failure(Box(), tool(), {}) == (ToolErrorCode.NOT_FOUND, "There is no such tool any more")
    away = box_of(tool(), None)
    assert await failure(away, tool(), {}) == (
        ToolErrorCode.UNAVAILABLE,
        "The server of the tool shell cannot be reached",
    )
    assert list(away.enabled()) == []


async def test_a_key_runs_once_for_all_who_ask() -> None:
    runs: list[str] = []
    gate = anyio.Event()

    async def run(arguments: Mapping[str, object], key: str) -> ToolResult:
        runs.append(key)
        await gate.wait()
        return ToolResult(f"{key} {len(runs)}")

    box = box_of(tool(), run)
    with anyio.fail_after(5):
        first, second = (asyncio.create_task(box.call(tool(), {}, key="call_1")) for _ in range(2))
        other = asyncio.create_task(box.call(tool(), {}, key="call_2"))
        await anyio.wait_all_tasks_blocked()
        gate.set()
        assert [await first, await second, await other] == [
            ToolResult("call_1 2"),
            ToolResult("call_1 2"),
            ToolResult("call_2 2"),
        ]
        assert await box.call(tool(), {}, key="call_1") == ToolResult("call_1 2")
    assert runs == ["call_1", "call_2"]


async def test_a_call_that_nobody_waits_for_is_stopped_and_never_run_again() -> None:
    runs: list[str] = []
    ended = anyio.Event()

    async def run(arguments: Mapping[str, object], key: str) -> ToolResult:
        runs.append(key)
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()
        return ToolResult("late")

    box = box_of(tool(), run)
    with anyio.fail_after(5):
        first, second = (asyncio.create_task(box.call(tool(), {}, key="call_1")) for _ in range(2))
        await anyio.wait_all_tasks_blocked()
        first.cancel()
        await asyncio.wait([first])
        assert not ended.is_set()
        second.cancel()
        await ended.wait()
        assert await failure(box, tool(), {}) == (
            ToolErrorCode.UNAVAILABLE,
            "This call was stopped before its result was there",
        )
    assert runs == ["call_1"]
