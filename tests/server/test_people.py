"""The people whom whoever runs the server makes: by `loquent user`, and by the settings."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from db import accounts as accounts_in_database
from db.base import Database, ReadSession
from db.models import AuditRecord, AuthSession, Role, User
from resolvers import accounts, operators, sessions
from resolvers.accounts import NewPerson
from resolvers.call import Call, Policy
from resolvers.errors import InvalidInput, Unauthenticated
from resolvers.identity import authenticate
from resolvers.passwords import Passwords
from server import observe
from server.cli import app
from server.services import Process
from server.settings import Settings, SettingsError
from tests.process import running

pytestmark = pytest.mark.anyio

Command = Callable[..., tuple[int, str, str]]
EMAIL, PASSWORD = "root@example.com", "correct horse"


@pytest.fixture
def command(tmp_path: Path, database_address: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `loquent user …` and gives its exit code, its output and its complaints."""
    monkeypatch.setattr(observe, "configure", lambda *_: None)
    environment = {"LOQUENT_DATA": str(tmp_path), "DATABASE_URL": database_address}

    def run(*words: str, input: str | None = None) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, ["user", *words], input=input, env=environment)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        return result.exit_code, result.stdout.strip(), result.stderr.strip()

    return run


def rows(address: str) -> list[User]:
    async def read() -> Sequence[User]:
        database = Database(address)
        async with database.read() as session:
            found = (await session.scalars(select(User).order_by(User.id))).all()
        await database.close()
        return found

    return list(asyncio.run(read()))


def test_administrator_is_made_and_listed(command: Command, database_address: str) -> None:
    code, said, _ = command("create", "--admin", "Root@Example.com", "--password-stdin", input=f"{PASSWORD}\n")
    assert code == 0
    assert re.fullmatch(r"user_\w{24}  root@example\.com  admin", said)
    assert command("create", "ann@example.com", "--password-stdin", input="another horse\r\n")[0] == 0
    users = rows(database_address)
    assert [(row.email, row.role) for row in users] == [("root@example.com", "admin"), ("ann@example.com", "user")]
    _, said, _ = command("list")
    assert said.splitlines() == [f"{users[1].id}  user   ann@example.com", f"{users[0].id}  admin  root@example.com"]


def test_password_is_asked_for_twice(command: Command, database_address: str) -> None:
    assert command("create", EMAIL, input=f"{PASSWORD}\n{PASSWORD}\n")[0] == 0
    code, said, _ = command("create", "ann@example.com", input=f"{PASSWORD}\nwrong horse\n")
    assert code == 1
    assert PASSWORD not in said
    assert [row.email for row in rows(database_address)] == [EMAIL]


def test_what_cannot_be_done_is_said_in_one_line(command: Command) -> None:
    command("create", "--admin", EMAIL, "--password-stdin", input=PASSWORD)
    for words, complaint in [
        (("create", EMAIL, "--password-stdin"), "This e-mail address has an account already"),
        (("create", "nonsense", "--password-stdin"), "email is not an e-mail address"),
        (("set-role", EMAIL, "user"), "This is the only administrator"),
        (("delete", EMAIL, "--yes"), "This is the only administrator"),
        (("set-role", "ann@example.com", "user"), "user not found"),
    ]:
        assert command(*words, input=PASSWORD) == (1, "", complaint)
    code, said, complaint = command("create", "ann@example.com", "--password-stdin", input="short\n")
    assert (code, said, complaint) == (1, "", "password must have at least 8 characters")
    assert command("delete", EMAIL, input="n\n")[0] == 1


def test_role_password_and_person_are_changed(command: Command, database_address: str) -> None:
    for email in (EMAIL, "ann@example.com"):
        command("create", email, "--password-stdin", input=PASSWORD)
    assert command("set-role", "ANN@example.com", "admin")[0] == 0
    assert command("set-password", EMAIL, "--password-stdin", input="new horse")[0] == 0
    assert command("delete", "ann@example.com", input="y\n")[0] == 1, "the only administrator stays"
    assert command("set-role", EMAIL, "admin")[0] == 0
    assert command("delete", "ann@example.com", input="y\n")[0] == 0
    (left,) = rows(database_address)
    assert (left.email, left.role) == (EMAIL, "admin")
    assert left.password_hash is not None
    assert asyncio.run(Passwords().is_right("new horse", left.password_hash))


async def test_invite_of_the_operator_lets_somebody_in(command: Command, database: Database, tmp_path: Path) -> None:
    code, token, _ = await anyio.to_thread.run_sync(command, "invite", "--days", "2")
    assert code == 0
    async with running(database, policy=Policy(invite_required=True)) as services:
        person = NewPerson("ann@example.com", PASSWORD, invite_token=token)
        await accounts.register(Call(services, None), person)


async def test_operators_deeds_are_written_down_and_felt_by_who_is_signed_in(database: Database) -> None:
    passwords = Passwords()
    async with running(database) as services:
        await operators.create_user(database, passwords, EMAIL, PASSWORD, Role.ADMIN)
        await operators.create_user(database, passwords, "ann@example.com", PASSWORD, Role.USER)
        tokens = await accounts.login(Call(services, None), "ann@example.com", PASSWORD)
        await operators.set_role(database, "ann@example.com", Role.ADMIN)
        caller = await authenticate(services, tokens.access_token)
        assert caller is not None
        assert caller.role is Role.ADMIN
        await operators.set_password(database, passwords, "ann@example.com", "another horse")
        with pytest.raises(Unauthenticated):
            await sessions.refresh(Call(services, None), tokens.refresh_token)
        await operators.delete_user(database, "ann@example.com")
        await operators.create_user(database, passwords, "bob@example.com", PASSWORD, Role.USER)
        await operators.delete_user(database, "bob@example.com")
        async with database.read() as session:
            assert list(await session.scalars(select(AuthSession))) == []
            deeds = list(await session.scalars(select(AuditRecord).order_by(AuditRecord.id)))
        assert [(row.action, row.actor_id) for row in deeds if row.actor_id is None] == [
            ("user.create", None),
            ("user.create", None),
            ("user.set_role", None),
            ("user.set_password", None),
            ("user.delete", None),
            ("user.create", None),
            ("user.delete", None),
        ]


async def start(folder: Path, address: str, email: str, password: str) -> None:
    named: dict[str, object] = {"data": folder, "database_url": address}
    settings = Settings(**named, admin_email=email, admin_password=password)
    async with Process(settings).running():
        pass


async def test_first_administrator_is_made_at_the_start_if_there_is_none(
    tmp_path: Path, database_address: str, database: Database
) -> None:
    # Of several workers that start at once one makes it.
    await asyncio.gather(*(start(tmp_path, database_address, EMAIL, PASSWORD) for _ in range(3)))
    await start(tmp_path, database_address, "other@example.com", PASSWORD)
    async with database.read() as session:
        users = list(await session.scalars(select(User)))
    assert [(row.email, row.role) for row in users] == [(EMAIL, "admin")]


@pytest.mark.parametrize(("email", "password"), [("nonsense", PASSWORD), (EMAIL, "short")])
async def test_first_administrator_who_cannot_be_made_stops_the_start(
    tmp_path: Path, database_address: str, email: str, password: str
) -> None:
    with pytest.raises(SettingsError, match="ADMIN_EMAIL, ADMIN_PASSWORD") as refused:
        await start(tmp_path, database_address, email, password)
    assert password not in str(refused.value)


async def test_first_administrator_may_be_made_by_another_worker_meanwhile(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[ReadSession] = []
    real = accounts_in_database.has_administrator

    async def late(session: ReadSession) -> bool:
        asked.append(session)
        return len(asked) > 1 and await real(session)

    await operators.create_user(database, Passwords(), EMAIL, PASSWORD, Role.ADMIN)
    monkeypatch.setattr(accounts_in_database, "has_administrator", late)
    await operators.ensure_administrator(database, Passwords(), EMAIL, PASSWORD)
    assert len(asked) == 2


async def test_address_of_a_user_is_not_quietly_made_an_administrators(database: Database) -> None:
    await operators.create_user(database, Passwords(), EMAIL, PASSWORD, Role.USER)
    with pytest.raises(InvalidInput, match="has an account already"):
        await operators.ensure_administrator(database, Passwords(), EMAIL, PASSWORD)
