"""The calculator: exact where it can be, bounded always."""

from __future__ import annotations

import contextlib
import time

import pytest

from engine.tools.base import ToolError, ToolErrorCode, ToolResult
from engine.tools.box import Box

HUGE = "9" * 99

pytestmark = pytest.mark.anyio


async def calculated(expression: str) -> ToolResult:
    box = Box()
    tool = box.find("calculator")
    assert tool is not None
    return await box.call(tool, {"expression": expression}, key="call_1")


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("1 + 2 * 3", "7"),
        ("(1 + 2) * 3", "9"),
        ("-2 ** 2", "-4"),
        ("2 ^ 3 ** 2", "512"),
        ("0.1 + 0.2", "0.3"),
        ("1 / 3", "0.333333333333333333333333333333"),
        ("-7 // 2", "-4"),
        ("-7 % 3", "2"),
        ("7 % -3", "-2"),
        ("1_000 * .5", "500"),
        ("2 ** 200", "1606938044258990275541962092341162602522202993782792835301376"),
        ("1e-40 * 2", "2e-40"),
        ("10 ** 9999", "1e+9999"),
        ("sqrt(16) + abs(-1) + max(1, 2, 3) - min(4, 5)", "4"),
        ("round(2.5) + round(2.345, 2) + floor(-0.5) + ceil(0.5)", "5.35"),
        ("sin(pi / 2) + ln(e) + log10(1000) + exp(0) + cos(0) + tan(0)", "7"),
    ],
)
async def test_an_expression_has_its_result(expression: str, result: str) -> None:
    assert await calculated(expression) == ToolResult(result)


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("", "The expression ends too early"),
        ("1 +", "The expression ends too early"),
        ("(1", "A parenthesis is not closed"),
        ("1 2", "'2' is not expected there"),
        ("__import__('os')", "'_' is not known here"),
        ("open", "'open' is not known here"),
        ("sqrt 4", "sqrt is a function: write sqrt(…)"),
        ("sqrt(1, 2)", "sqrt does not take 2 values"),
        ("round(1, 0.5)", "round takes a whole number of digits"),
        ("1 / 0", "A division by zero has no result"),
        ("0 // 0", "A division by zero has no result"),
        ("9 ** 9 ** 9 ** 9", "The result is too large"),
        ("sqrt(-1)", "This has no result among the real numbers that can be held here"),
        ("ln(0)", "This has no result among the real numbers that can be held here"),
        ("sin(1e400)", "This has no result among the real numbers that can be held here"),
        ("(" * 65 + "1" + ")" * 65, "The expression is nested deeper than 64"),
        ("2^" * 65 + "2", "The expression is nested deeper than 64"),
        ("1" * 1001, f"The arguments do not fit the tool: expression: {'1' * 1001!r} is too long"),
    ],
)
async def test_what_has_no_result_says_why(expression: str, reason: str) -> None:
    with pytest.raises(ToolError) as caught:
        await calculated(expression)
    assert caught.value.code is ToolErrorCode.ARGUMENTS
    assert caught.value.message.startswith(reason[:200])


@pytest.mark.parametrize(
    "expression",
    [
        "^".join([HUGE] * 10),
        "*".join([f"exp({HUGE})"] * 9),
        f"sqrt({HUGE})**{HUGE[:50]}.5",
        "-" * 999 + "1",
        f"1.{HUGE}^{HUGE}",
        "ln(" * 60 + HUGE + ")" * 60,
    ],
)
async def test_no_expression_takes_long(expression: str) -> None:
    began = time.process_time()
    with contextlib.suppress(ToolError):
        await calculated(expression)
    assert time.process_time() - began < 0.5
