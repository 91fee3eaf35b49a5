"""`loquent doctor`: whether all that a server needs is there, and how to mend what is not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import typer

from server.remote import AsJson

if TYPE_CHECKING:
    from server.checks import Finding
    from server.settings import Settings

_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}


def doctor(*, as_json: AsJson = False) -> None:
    """Check settings, database, Redis, providers, tools, clock, disk and ports, and say how to mend each."""
    # Late: they take a second, which `--help` need not wait for.
    from server import observe  # noqa: PLC0415

    observe.configure("error")
    found: list[Finding] = []

    def tell(finding: Finding) -> None:
        found.append(finding)
        if not as_json:
            _show(finding)

    values = _examine(tell, is_shown=not as_json)
    is_ok = all(one.verdict != "failed" for one in found)
    if as_json:
        told = [
            {"check": one.check, "verdict": one.verdict, "message": one.message, "remedy": one.remedy} for one in found
        ]
        typer.echo(json.dumps({"ok": is_ok, "settings": values, "checks": told}, indent=2))
    if not is_ok:
        raise typer.Exit(1)


def _examine(tell: Callable[[Finding], None], *, is_shown: bool) -> dict[str, dict[str, str]]:
    """Makes all checks that can be made; the settings, where they hold."""
    from server.checks import Finding  # noqa: PLC0415
    from server.settings import SettingsError, load, near_misses  # noqa: PLC0415

    values: dict[str, dict[str, str]] = {}
    try:
        settings, warnings = load()
        values = _values(settings)
        if is_shown:
            _show_values(values)
        for line in [*warnings, *near_misses()]:
            tell(Finding("settings", "warning", line, "Correct the name, or take it away"))
        asyncio.run(_all(settings, tell))
    except SettingsError as error:
        for line in str(error).splitlines():
            tell(Finding("settings", "failed", line, "Correct it: `loquent settings` tells what may stand there"))
    return values


async def _all(settings: Settings, tell: Callable[[Finding], None]) -> None:
    from server.checks import findings  # noqa: PLC0415

    async for finding in findings(settings):
        tell(finding)


def _values(settings: Settings) -> dict[str, dict[str, str]]:
    """Each setting under its first name, with its value, unless that is a secret, and where it came from."""
    from server.settings import origins, variables  # noqa: PLC0415

    return {
        variables(field)[0]: {"value": _shown(getattr(settings, field)), "origin": origin}
        for field, origin in origins().items()
    }


def _shown(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "on" if value else "off"
        case str():
            return _without_password(value)
        case int() | float() | Path():
            return str(value)
        case tuple() | list() if all(isinstance(one, str) for one in value):
            return ", ".join(value) or "none"
        case tuple() | list() | dict():
            return f"{len(value)} entries"
        case _:
            return "set"


def _without_password(value: str) -> str:
    parts = urlsplit(value)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else value


def _show_values(values: dict[str, dict[str, str]]) -> None:
    """Those that somebody has set."""
    for name, one in values.items():
        if one["origin"] != "default":
            typer.secho(f"  {name} = {one['value']}  ({one['origin']})", dim=True)


def _show(finding: Finding) -> None:
    typer.secho(f"{finding.verdict:<8}", fg=_COLOURS[finding.verdict], nl=False)
    typer.echo(f"{finding.check}: {finding.message}")
    if finding.remedy:
        typer.echo(f"        → {finding.remedy}")
