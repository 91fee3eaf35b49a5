"""What every command does first and last: read the settings, and say what went wrong."""

from __future__ import annotations

from typing import NoReturn

import typer

from server import observe
from server.settings import Settings, SettingsError, load


def settings(**given: object) -> Settings:
    """What is given goes before everything, but for None. Leaves with a message when the settings do not hold."""
    try:
        found, warnings = load(**{name: value for name, value in given.items() if value is not None})
    except SettingsError as error:
        fail(str(error))
    observe.configure(found.log_level, found.log_format)
    for warning in warnings:
        typer.secho(warning, fg="yellow", err=True)
    return found


def fail(message: str) -> NoReturn:
    typer.secho(message, fg="red", err=True)
    raise typer.Exit(1)
