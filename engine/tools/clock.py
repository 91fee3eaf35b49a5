"""The time, which models do not know."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from engine.tools.base import ToolError, ToolErrorCode, ToolResult

NAME = "current_time"
DESCRIPTION = "Tells the date, the day of the week and the time of now, in UTC or in a time zone."
PARAMETERS: Mapping[str, object] = {
    "type": "object",
    "properties": {
        "timezone": {
            "type": "string",
            "maxLength": 64,
            "description": "A name of the IANA list, for example Europe/Berlin. UTC when it is left out.",
        }
    },
    "additionalProperties": False,
}


async def run(arguments: Mapping[str, object]) -> ToolResult:
    """Raises ToolError for a zone that is not on the list."""
    name = str(arguments.get("timezone") or "UTC")
    return told(datetime.now(UTC), name)


def told(moment: datetime, zone: str) -> ToolResult:
    try:
        there = moment.astimezone(ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # A folder of the list, such as Europe, is an error of the operating system's.
        raise ToolError(ToolErrorCode.ARGUMENTS, "No time zone has this name; write it as in Europe/Berlin") from None
    text = there.isoformat(timespec="seconds")
    day = there.strftime("%A")
    known = {"time": text, "day": day, "timezone": zone, "unix": int(moment.timestamp())}
    return ToolResult(f"{text} ({day}, {zone})", structured=known)
