"""`loquent user …`: people, as whoever runs the server makes and changes them at the machine itself."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from server import console

if TYPE_CHECKING:
    from db.base import Database
    from server.settings import Settings

# The floors below are imported late: they take most of a second, which `--help` need not wait for.

T = TypeVar("T")
PAGE = 100
app = typer.Typer(no_args_is_help=True, help="Make, list and change the people who may sign in.")

Email = Annotated[str, typer.Argument(help="E-mail address.")]
FromStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


class GivenRole(StrEnum):
    USER = "user"
    ADMIN = "admin"


@app.command()
def create(
    email: Email,
    *,
    admin: Annotated[bool, typer.Option("--admin", help="Make an administrator.")] = False,
    password_stdin: FromStdin = False,
) -> None:
    """Make an account."""
    from db.models import Role  # noqa: PLC0415
    from resolvers import operators  # noqa: PLC0415
    from resolvers.passwords import Passwords  # noqa: PLC0415

    settings, role = console.settings(), Role.ADMIN if admin else Role.USER
    password, passwords = _password(is_piped=password_stdin), Passwords(*_cost(settings))
    made = done(settings, lambda database: operators.create_user(database, passwords, email, password, role))
    typer.echo(f"{made.id}  {made.email}  {made.role}")


@app.command("list")
def show() -> None:
    """List everybody, the newest first."""
    from resolvers import operators  # noqa: PLC0415

    async def tell(database: Database) -> None:
        after = None
        while rows := await operators.users(database, after, PAGE):
            for row in rows:
                typer.echo(f"{row.id}  {row.role:<5}  {row.email or row.display_name or '-'}")
            after = rows[-1].id

    done(console.settings(), tell)


@app.command("set-role")
def set_role(email: Email, role: Annotated[GivenRole, typer.Argument(help="What they shall be.")]) -> None:
    """Give somebody another role; servers that run see it within five seconds."""
    from db.models import Role  # noqa: PLC0415
    from resolvers import operators  # noqa: PLC0415

    done(console.settings(), lambda database: operators.set_role(database, email, Role(role)))
    typer.echo(f"{email} is {role} now.")


@app.command("set-password")
def set_password(email: Email, *, password_stdin: FromStdin = False) -> None:
    """Give somebody a new password, and end all their sign-ins."""
    from resolvers import operators  # noqa: PLC0415
    from resolvers.passwords import Passwords  # noqa: PLC0415

    settings = console.settings()
    password, passwords = _password(is_piped=password_stdin), Passwords(*_cost(settings))
    done(settings, lambda database: operators.set_password(database, passwords, email, password))
    typer.echo(f"{email} has a new password.")


@app.command()
def delete(
    email: Email, *, yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether it is meant.")] = False
) -> None:
    """Delete somebody with everything that belongs to them."""
    from resolvers import operators  # noqa: PLC0415

    if not yes:
        typer.confirm(f"Delete {email} with all conversations, keys and media?", abort=True)
    done(console.settings(), lambda database: operators.delete_user(database, email))
    typer.echo(f"{email} is deleted.")


@app.command()
def invite(
    days: Annotated[int, typer.Option(min=1, max=365, help="How long it holds.")] = 7,
) -> None:
    """Print a token that lets one person register."""
    from resolvers import operators  # noqa: PLC0415

    typer.echo(done(console.settings(), lambda database: operators.invite(database, timedelta(days=days))))


def done(settings: Settings, work: Callable[[Database], Awaitable[T]]) -> T:
    """Does the work on a database that is up to date; a failure that has a name is told in one line."""
    from db.base import Database, StorageError  # noqa: PLC0415
    from db.migrate import migrate  # noqa: PLC0415
    from resolvers.errors import PublicError  # noqa: PLC0415

    async def run() -> T:
        database = Database(settings.database_address)
        try:
            await migrate(database)
            return await work(database)
        finally:
            await database.close()

    try:
        return asyncio.run(run())
    except (PublicError, StorageError) as error:
        console.fail(str(error))


def _password(*, is_piped: bool) -> str:
    if is_piped:
        return sys.stdin.readline().rstrip("\r\n")
    answer: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return answer


def _cost(settings: Settings) -> tuple[int, int]:
    return settings.password_memory, settings.password_iterations
