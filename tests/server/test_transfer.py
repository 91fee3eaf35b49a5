"""`loquent export` and `loquent import` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from server import observe
from server.cli import app
from tests.resolvers.chats import CHATGPT, LIBRECHAT


def loquent(folder: Path, *words: str, given: str = "") -> tuple[int, str, str]:
    """The exit code and what was said, on both streams."""
    # A width that breaks no path.
    environment = {"LOQUENT_DATA": str(folder / "data"), "COLUMNS": "500"}
    ended = CliRunner().invoke(app, words, input=given, env=environment)
    return ended.exit_code, ended.stdout, ended.stderr


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With the accounts of Ann and Bob, and a file of each of two other programs."""
    monkeypatch.setattr(observe, "configure", lambda *_: None)
    for name in ("ann", "bob"):
        code, _, said = loquent(
            tmp_path, "user", "create", f"{name}@example.com", "--password-stdin", given="a long password"
        )
        assert code == 0, said
    (tmp_path / "chatgpt.json").write_text(json.dumps(CHATGPT))
    (tmp_path / "librechat.json").write_text(json.dumps(LIBRECHAT))
    return tmp_path


def test_files_go_in_and_out_and_on(folder: Path) -> None:
    chatgpt, out = str(folder / "chatgpt.json"), folder / "out.ndjson"
    told = loquent(folder, "import", chatgpt, "--user", "ann@example.com")
    assert told == (0, "1 conversations with 5 items; 0 were there already.\n", "")
    told = loquent(folder, "import", chatgpt, "--user", "ann@example.com")
    assert told == (0, "0 conversations with 0 items; 1 were there already.\n", "")
    loquent(folder, "import", str(folder / "librechat.json"), "--user", "bob@example.com")
    everybody = f"2 conversations are in {out}.\n"
    assert loquent(folder, "export", "--out", str(out)) == (0, everybody, "")
    whole = out.read_bytes()
    assert [json.loads(line)["type"] for line in whole.splitlines()].count("user") == 2
    assert out.stat().st_mode & 0o777 == 0o600
    for length in (0, 5, len(whole) // 3, len(whole) * 2 // 3, len(whole) - 1, len(whole)):
        out.write_bytes(whole[:length])
        assert loquent(folder, "export", "--out", str(out)) == (0, everybody, "")
        assert out.read_bytes() == whole
    one = folder / "one.ndjson"
    assert loquent(folder, "export", "--out", str(one), "--user", "ann@example.com")[0] == 0
    assert whole.startswith(one.read_bytes())
    code, _, said = loquent(folder, "export", "--out", str(one), "--user", "bob@example.com")
    assert (code, said) == (1, f"{one}: it holds the conversations of somebody else\n")


def test_what_goes_wrong_is_told(folder: Path) -> None:
    chatgpt = folder / "chatgpt.json"
    before = chatgpt.read_bytes()
    assert loquent(folder, "export", "--out", str(chatgpt)) == (1, "", f"{chatgpt}: it is no export of this server\n")
    assert chatgpt.read_bytes() == before
    code, _, said = loquent(folder, "import", str(folder / "nothing.json"), "--user", "ann@example.com")
    assert (code, "No such file" in said) == (1, True)
    assert loquent(folder, "import", str(chatgpt), "--user", "eve@example.com") == (1, "", "user not found\n")
    broken = folder / "broken.json"
    broken.write_text('{"type":"riddle"}\n')
    code, told, said = loquent(folder, "import", str(broken), "--user", "ann@example.com")
    assert (code, told) == (1, "0 conversations with 0 items; 0 were there already.\n")
    assert said.startswith(f"{broken}:1: not what it should be: Invalid value 'riddle'")
    assert said.endswith("1 could not be taken.\n")
