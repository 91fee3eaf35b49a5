"""Arithmetic for models, which are bad at it: a small language of numbers, bounded in length, depth and digits."""

from __future__ import annotations

import decimal
import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal

from engine.tools.base import ToolError, ToolErrorCode, ToolResult

LONGEST = 1000
DEEPEST = 64
DIGITS = 100
_SHOWN = 30

NAME = "calculator"
DESCRIPTION = (
    "Calculates an arithmetic expression exactly: + - * / // % **, parentheses, pi, e, and the functions abs, ceil, cos, exp, "
    "floor, ln, log10, max, min, round, sin, sqrt and tan (angles in radians)."
)
PARAMETERS: Mapping[str, object] = {
    "type": "object",
    "properties": {
        "expression": {"type": "string", "maxLength": LONGEST, "description": "For example: (2 + 3.5) * sqrt(16)"}
    },
    "required": ["expression"],
    "additionalProperties": False,
}

_TOKEN = re.compile(r"[ \t\r\n]*(?:(\d[\d_]*(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)|([A-Za-z]\w*)|(\*\*|//|[-+*/%^(),]))")
_CONTEXT = decimal.Context(prec=DIGITS, rounding=decimal.ROUND_HALF_UP, Emax=9999, Emin=-9999, capitals=0)
_CONSTANTS = {
    "pi": Decimal(
        "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798"
    ),
    "e": Decimal(
        "2.71828182845904523536028747135266249775724709369995957496696762772407663035354759457138217852516642743"
    ),
}


class _Wrong(Exception):
    """The expression has no value; the message says why."""


def _by_floats(function: Callable[[float], float]) -> Callable[[Decimal], Decimal]:
    return lambda value: Decimal(repr(function(float(value))))


def _rounded(value: Decimal, digits: Decimal = Decimal(0)) -> Decimal:
    if digits != int(digits) or abs(digits) > DIGITS:
        raise _Wrong("round takes a whole number of digits")
    return value.quantize(Decimal(1).scaleb(-int(digits)))


_FUNCTIONS: Mapping[str, tuple[int, int, Callable[..., Decimal]]] = {
    "abs": (1, 1, abs),
    "ceil": (1, 1, lambda value: value.to_integral_value(decimal.ROUND_CEILING)),
    "cos": (1, 1, _by_floats(math.cos)),
    "exp": (1, 1, Decimal.exp),
    "floor": (1, 1, lambda value: value.to_integral_value(decimal.ROUND_FLOOR)),
    "ln": (1, 1, Decimal.ln),
    "log10": (1, 1, Decimal.log10),
    "max": (1, LONGEST, max),
    "min": (1, LONGEST, min),
    "round": (1, 2, _rounded),
    "sin": (1, 1, _by_floats(math.sin)),
    "sqrt": (1, 1, Decimal.sqrt),
    "tan": (1, 1, _by_floats(math.tan)),
}


async def run(arguments: Mapping[str, object]) -> ToolResult:
    """Raises ToolError where the expression has no value."""
    expression = str(arguments["expression"])
    try:
        return ToolResult(calculate(expression))
    except _Wrong as error:
        raise ToolError(ToolErrorCode.ARGUMENTS, f"{error}") from error


def calculate(expression: str) -> str:
    """Raises what says why it has no value."""
    if len(expression) > LONGEST:
        raise _Wrong(f"The expression is longer than {LONGEST} characters")
    try:
        with decimal.localcontext(_CONTEXT):
            return _shown(_Parser(expression).value())
    except decimal.Overflow:
        raise _Wrong("The result is too large") from None
    except decimal.DivisionByZero:
        raise _Wrong("A division by zero has no result") from None
    except (decimal.InvalidOperation, ValueError, OverflowError):
        raise _Wrong("This has no result among the real numbers that can be held here") from None


def _shown(value: Decimal) -> str:
    if not value.is_finite():
        raise decimal.InvalidOperation
    if value == value.to_integral_value() and value.adjusted() < DIGITS:
        return f"{value.to_integral_value() + 0:f}"
    rounded = decimal.Context(prec=_SHOWN, Emax=9999, Emin=-9999, capitals=0).create_decimal(value).normalize()
    return f"{rounded:f}" if -_SHOWN < rounded.adjusted() < _SHOWN else str(rounded)


class _Parser:
    """Computes while it reads: sums of products of powers."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._place = 0
        self._depth = 0

    def value(self) -> Decimal:
        found = self._sum()
        if self._next():
            raise _Wrong(f"{self._next()!r} is not expected there")
        return found

    def _next(self) -> str:
        return self._tokens[self._place] if self._place < len(self._tokens) else ""

    def _take(self, *wanted: str) -> str:
        found = self._next()
        if not found or (wanted and found not in wanted):
            return ""
        self._place += 1
        return found

    def _sum(self) -> Decimal:
        self._depth += 1
        if self._depth > DEEPEST:
            raise _Wrong(f"The expression is nested deeper than {DEEPEST}")
        left = self._product()
        while sign := self._take("+", "-"):
            right = self._product()
            left = left + right if sign == "+" else left - right
        self._depth -= 1
        return left

    def _product(self) -> Decimal:
        left = self._signed()
        while sign := self._take("*", "/", "//", "%"):
            left = _applied(sign, left, self._signed())
        return left

    def _signed(self) -> Decimal:
        is_negative = False
        while sign := self._take("+", "-"):
            is_negative ^= sign == "-"
        found = self._power()
        return -found if is_negative else found

    def _power(self) -> Decimal:
        base = self._atom()
        if not self._take("**", "^"):
            return base
        self._depth += 1
        if self._depth > DEEPEST:
            raise _Wrong(f"The expression is nested deeper than {DEEPEST}")
        exponent = self._signed()
        self._depth -= 1
        return Decimal(1) if not base and not exponent else base**exponent

    def _atom(self) -> Decimal:
        token = self._take()
        if token == "(":  # noqa: S105 - no password
            found = self._sum()
            self._close()
            return found
        if token[:1].isdigit() or token[:1] == ".":
            return Decimal(token) + 0
        if token in _CONSTANTS:
            return _CONSTANTS[token]
        if token in _FUNCTIONS:
            return self._call(token)
        raise _Wrong(f"{token!r} is not known here" if token else "The expression ends too early")

    def _call(self, name: str) -> Decimal:
        fewest, most, function = _FUNCTIONS[name]
        if not self._take("("):
            raise _Wrong(f"{name} is a function: write {name}(…)")
        given = [self._sum()]
        while self._take(","):
            given.append(self._sum())
        self._close()
        if not fewest <= len(given) <= most:
            raise _Wrong(f"{name} does not take {len(given)} values")
        return function(*given)

    def _close(self) -> None:
        if not self._take(")"):
            raise _Wrong("A parenthesis is not closed")


def _applied(sign: str, left: Decimal, right: Decimal) -> Decimal:
    if sign != "*" and not right:
        raise decimal.DivisionByZero
    match sign:
        case "*":
            return left * right
        case "/":
            return left / right
        case "//":
            return ((left - _remainder(left, right)) / right).to_integral_value()
        case _:
            return _remainder(left, right)


def _remainder(left: Decimal, right: Decimal) -> Decimal:
    """With the sign of the divisor, as mathematics and Python have it."""
    found = left % right
    return found + right if found and (found < 0) != (right < 0) else found


def _tokens(text: str) -> list[str]:
    found, place, text = [], 0, text.rstrip()
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise _Wrong(f"{text[place:].strip()[:1]!r} is not known here")
        found.append(match[match.lastindex or 0])
        place = match.end()
    return found
