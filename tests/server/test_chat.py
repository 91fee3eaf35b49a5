"""`loquent chat` and `loquent models` against a server of its own: in a terminal, through a pipe, over a line that breaks."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from server.screen import settled
from tests.served import served
from tests.server.terminal import ROOT, terminal
from tests.tiny_model import write_tiny_model

NUMBERS = re.compile(r"\b\d+\b")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("chat"), {"DEMO_PACE": "0.02", "GUEST_RATE_LIMIT": "0"}) as address:
        yield address


def loquent(home: Path, *arguments: str, given: str | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    known = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "VIRTUAL_ENV")}
    return subprocess.run(
        [sys.executable, "-m", "server", *arguments],
        cwd=ROOT,
        env=known | {"HOME": str(home)} | more,
        input=given,
        stdin=None if given is not None else subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class BrokenLine:
    """Stands between a client and a server, and breaks each WebSocket off after so many bytes from the server."""

    def __init__(self, target: str, most: int) -> None:
        self._target = int(target.rpartition(":")[2])
        self._most = most
        self.breaks = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        server = socket.create_connection(("127.0.0.1", self._target))
        threading.Thread(target=self._pump, args=(client, server), daemon=True).start()
        passed, is_socket = 0, False
        while data := _read(server):
            is_socket = is_socket or b"101 Switching" in data
            client.sendall(data)
            passed += len(data)
            if is_socket and passed > self._most:
                self.breaks += 1
                break
        for one in (client, server):
            with contextlib.suppress(OSError):
                # It wakes whoever reads, which closing does not.
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        while data := _read(client):
            try:
                server.sendall(data)
            except OSError:
                return

    def close(self) -> None:
        self._listener.close()


def _read(one: socket.socket) -> bytes:
    try:
        return one.recv(4096)
    except OSError:
        return b""


def test_through_a_pipe_it_is_the_text_alone(base: str, tmp_path: Path) -> None:
    done = loquent(tmp_path, "chat", "--url", base, given="Please count to 5\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert NUMBERS.findall(done.stdout) == ["1", "2", "3", "4", "5"]
    assert "\x1b" not in done.stdout
    again = loquent(tmp_path, "chat", "Please count to 3", LOQUENT_URL=base)
    assert NUMBERS.findall(again.stdout) == ["1", "2", "3"]


def test_a_line_that_breaks_again_and_again_loses_and_repeats_nothing(base: str, tmp_path: Path) -> None:
    line = BrokenLine(base, most=1500)
    try:
        done = loquent(tmp_path, "chat", "Please count to 60", "--url", line.url)
    finally:
        line.close()
    assert done.returncode == 0, done.stderr
    assert NUMBERS.findall(done.stdout) == [str(number) for number in range(1, 61)]
    assert line.breaks >= 2


def test_ctrl_c_stops_the_answer_and_not_the_program(base: str, tmp_path: Path) -> None:
    with terminal(tmp_path, ["chat", "--url", base]) as screen:
        screen.read_until("> ")
        screen.type("Please count to 500\n")
        screen.read_until(" 3 4 5 ")
        screen.interrupt()
        assert "499" not in screen.read_until("stopped\n> ")
        screen.type("/model nobody\n")
        screen.read_until("> ")
        screen.type("Hello\n")
        screen.read_until("model 'nobody' not found\n> ")
        screen.type("/new\n")
        screen.read_until("> ")
        screen.type("/model demo\n")
        screen.read_until("> ")
        screen.type("Please count to 3\n")
        answer = screen.read_until("\n> ")
        assert "1 2 3" in answer
        # At the prompt it gives up the line, as a shell does.
        screen.type("half a li")
        screen.interrupt()
        screen.read_until("> ")
        screen.type("\x04")
        assert screen.ended() == 0
    assert "Please count to 500" in next(tmp_path.rglob("history")).read_text()


def test_a_conversation_goes_on_another_time(base: str, tmp_path: Path) -> None:
    assert loquent(tmp_path, "chat", "Hello", "--url", base).returncode == 0
    [kept] = tmp_path.rglob("guests/*.json")
    assert kept.stat().st_mode & 0o077 == 0
    refresh = "mutation Refresh($token: String!) { refreshToken(input: {refreshToken: $token}) { accessToken } }"
    variables = {"token": json.loads(kept.read_text())["refresh_token"]}
    answer = httpx2.post(f"{base}/graphql", json={"query": refresh, "variables": variables}, timeout=10).json()
    token = answer["data"]["refreshToken"]["accessToken"]
    headers = {"Authorization": f"Bearer {token}"}
    [first] = httpx2.get(f"{base}/v1/conversations", headers=headers, timeout=10).json()["data"]
    done = loquent(tmp_path, "chat", "Again", "--url", base, "--conversation", first["id"], LOQUENT_TOKEN=token)
    assert done.returncode == 0, done.stderr
    items = httpx2.get(f"{base}/v1/conversations/{first['id']}/items", headers=headers, timeout=10).json()["data"]
    assert [item["role"] for item in items] == ["user", "assistant"] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("chat", "x", "--model", "nope"), "model 'nope' not found"),
        (("chat", "x", "--conversation", "conv_1"), "There is no conversation conv_1, or it belongs to somebody else"),
        (("chat", "x", "--token", "bad"), "The access token is not valid"),
        (("chat", "x", "--url", "ftp://host"), "ftp://host is no address of a server, such as http://localhost:8000"),
        (("models", "ls", "--url", "http://127.0.0.1:1"), "cannot be reached: is a server running?"),
        (("chat",), "There is nothing to ask: the input is empty"),
    ],
)
def test_what_goes_wrong_is_a_sentence_and_an_exit_code(
    base: str, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = loquent(tmp_path, *arguments, LOQUENT_URL=base)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_models_are_listed_for_people_and_for_programs(base: str, tmp_path: Path) -> None:
    shown = loquent(tmp_path, "models", "ls", "--url", base)
    assert shown.stdout.split() == ["MODEL", "PROVIDER", "CONTEXT", "STATE", "demo", "*", "demo", "8192", "AVAILABLE"]
    [row] = json.loads(loquent(tmp_path, "models", "ls", "--json", "--url", base).stdout)
    assert (row["name"], row["isDefault"]) == ("demo", True)


def test_help_and_completion_come_without_what_serves(tmp_path: Path) -> None:
    program = (
        "import sys, server.cli; print(sorted({'sqlalchemy', 'strawberry', 'aiohttp', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
    # Which shell it is would be looked for among the processes above this one, and not every runner has one.
    done = loquent(tmp_path, "--install-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*.sh")), "the shell finds it there"


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("", 0),
        ("one", 0),
        ("one\n\n", 5),
        ("one\n\ntwo", 5),
        ("\n\n", 0),
        ("```\na\n\nb", 0),
        ("```\na\n\nb\n```\n\nend", 14),
        ("one\n\n```\n\n", 5),
    ],
)
def test_only_whole_blocks_of_markdown_are_settled(text: str, end: int) -> None:
    assert settled(text) == end


@pytest.mark.timeout(120)
def test_a_model_is_loaded_seen_pinned_and_freed(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    name = write_tiny_model(tmp_path / "models" / "small.gguf").stem
    password = "the password of root"
    environment = {
        "LOQUENT_MODELS": str(tmp_path / "models"),
        "ADMIN_EMAIL": "root@example.com",
        "ADMIN_PASSWORD": password,
    }
    with served(tmp_path / "data", environment) as base:
        account = {"email": "root@example.com", "password": password}
        token = httpx2.post(f"{base}/v1/users/login", json=account, timeout=10).json()["token"]
        who = {"LOQUENT_URL": base, "LOQUENT_TOKEN": token}
        assert json.loads(loquent(tmp_path, "models", "ps", "--json", **who).stdout) == []
        done = loquent(tmp_path, "models", "load", name, **who)
        assert (done.returncode, done.stdout) == (0, f"{name} is loaded.\n"), done.stderr
        assert loquent(tmp_path, "models", "pin", name, **who).stdout == f"{name} stays in memory.\n"
        [row] = json.loads(loquent(tmp_path, "models", "ps", "--json", **who).stdout)
        assert (row["modelName"], row["state"], row["isPinned"]) == (name, "LOADED", True)
        refused = loquent(tmp_path, "models", "unload", name, **who)
        assert (refused.returncode, refused.stdout) == (1, "")
        done = loquent(tmp_path, "models", "unload", name, "--force", **who)
        assert (done.returncode, done.stdout) == (0, f"{name} is freed.\n"), done.stderr
        assert json.loads(loquent(tmp_path, "models", "ps", "--json", **who).stdout) == []
