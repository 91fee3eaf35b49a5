"""What every command does first and last: read the settings, and say what went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from server.settings import Settings


def settings(**given: object) -> Settings:
    """What is given goes before everything, but for None. Leaves with a message when the settings do not hold."""
    # Late: reading them takes half a second, which `--help` need not wait for.
    from server import observe  # noqa: PLC0415
    from server.settings import SettingsError, load  # noqa: PLC0415

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
