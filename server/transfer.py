"""`loquent export` and `loquent import`: conversations out of the database into a file, and out of files into it."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from server import console
from server.people import done

if TYPE_CHECKING:
    from rich.progress import Progress

    from db.base import Database
    from resolvers.imports import Report

# The floors below are imported late: they take most of a second, which `--help` need not wait for.

PIECE = 1024 * 1024
_USER = b'{"type":"user"'
_CONVERSATION = b'{"type":"conversation"'


@dataclass(slots=True)
class Mark:
    """How far a file has come: the end of its last whole line, whose id `last` is; whose lines these are; how many
    conversations there are."""

    end: int = 0
    last: str | None = None
    user: str = ""
    conversations: int = 0


def export(
    out: Annotated[Path, typer.Option("--out", help="The file. One that was broken off is continued.")],
    user: Annotated[str | None, typer.Option("--user", help="E-mail address; everybody by default.")] = None,
) -> None:
    """Write conversations into a file: JSON objects, one a line."""
    try:
        with out.open("ab+") as file, _progress() as progress:
            os.chmod(file.fileno(), 0o600)
            mark = _marked(file)
            done(console.settings(), lambda database: _export(database, file, mark, user, progress))
    except (OSError, ValueError) as error:
        console.fail(f"{out}: {error}")
    typer.echo(f"{mark.conversations} conversations are in {out}.")


def take_in(
    file: Annotated[Path, typer.Argument(help="An export of this server, of ChatGPT or of LibreChat.")],
    user: Annotated[str, typer.Option("--user", help="E-mail address of who gets them.")],
) -> None:
    """Put the conversations of a file into somebody's account. Those that are there already are passed over."""
    try:
        with file.open("rb") as opened, _progress() as progress:
            report = done(console.settings(), lambda database: _import(database, opened, user, progress))
    except OSError as error:
        console.fail(f"{file}: {error}")
    for problem in report.problems:
        typer.secho(f"{file}:{problem.line}: {problem.message}", fg="yellow", err=True)
    typer.echo(f"{report.conversations} conversations with {report.items} items; {report.skipped} were there already.")
    if report.failures:
        console.fail(f"{report.failures} could not be taken.")


async def _export(database: Database, file: BinaryIO, mark: Mark, email: str | None, progress: Progress) -> None:
    from resolvers import exports, operators  # noqa: PLC0415

    person = await operators.user(database, email) if email is not None else None
    total = await exports.size(database, person.id if person is not None else None)
    task = progress.add_task("conversations", total=total, completed=mark.conversations)

    async def write(user_id: str, after: str | None) -> None:
        async for piece in await exports.account(database, user_id, after):
            file.write(piece)
            count = sum(line.startswith(_CONVERSATION) for line in piece.splitlines())
            mark.conversations += count
            progress.advance(task, count)

    if mark.user and (person is None or person.id == mark.user):
        await write(mark.user, mark.last)
    elif mark.user:
        raise ValueError("it holds the conversations of somebody else")
    elif person is not None:
        await write(person.id, None)
    if person is None:
        async for user_id in exports.everybody(database, mark.user):
            await write(user_id, None)


def _marked(file: BinaryIO) -> Mark:
    """Where the file stands, whose last line is cut off where it is not whole. Raises ValueError for another file."""
    mark = Mark()
    file.seek(0)
    head = file.read(len(_USER))
    if not _USER.startswith(head):
        raise ValueError("it is no export of this server")
    file.seek(0)
    for line in file:
        if not line.endswith(b"\n"):
            break
        mark.end += len(line)
        mark.last = str(json.loads(line).get("id"))
        mark.conversations += line.startswith(_CONVERSATION)
        if line.startswith(_USER):
            mark.user = mark.last or ""
    file.truncate(mark.end)
    return mark


async def _import(database: Database, file: BinaryIO, email: str, progress: Progress) -> Report:
    from resolvers import imports, operators  # noqa: PLC0415

    person = await operators.user(database, email)
    task = progress.add_task("bytes", total=os.fstat(file.fileno()).st_size)

    async def pieces() -> AsyncGenerator[bytes]:
        while piece := file.read(PIECE):
            yield piece
            progress.advance(task, len(piece))

    return await imports.into(database, person.id, pieces())


def _progress() -> Progress:
    """On the error stream, and only where somebody looks at it."""
    # Rich takes a tenth of a second to import.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    terminal = Console(stderr=True)
    return Progress(console=terminal, transient=True, disable=not terminal.is_terminal)
