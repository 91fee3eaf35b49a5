"""No secret leaves by the back door: not into a log line, an error, a metric or a file of the database."""

from __future__ import annotations

import base64
import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
import websockets
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.canaries import Canaries
from tests.served import served

NOWHERE = "127.0.0.1:1"


class Upstream(ThreadingHTTPServer):
    """A model whose answers, good and bad, repeat what it was asked, and with which key."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.keys: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Answers(BaseHTTPRequestHandler):
    server: Upstream

    def do_GET(self) -> None:
        self._answer(200, "application/json", json.dumps({"data": [{"id": "echo"}]}))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        key = self.headers.get("Authorization", "")
        self.server.keys.append(key.removeprefix("Bearer "))
        how = next((word for word in ("refuse", "break", "garble", "cut") if word in body), "answer")
        wrong = json.dumps(
            {"error": {"message": f"Incorrect API key: {key}. You said: {body}", "code": key, "type": key}}
        )
        said = json.dumps({"choices": [{"index": 0, "delta": {"content": "Fine"}, "finish_reason": "stop"}]})
        whole = json.dumps({"choices": [{"index": 0, "message": {"content": "Fine"}, "finish_reason": "stop"}]})
        match how:
            case "refuse":
                self._answer(401, "application/json", wrong)
            case "break":
                self._answer(500, "text/html", f"<pre>{key} {body}</pre>")
            case "garble":
                self._answer(200, "text/event-stream", f"data: {{{key} {body}\n\n")
            case "cut":
                self._answer(200, "text/event-stream", f"data: {wrong}\n\n")
            case _ if '"stream":true' in body.replace(" ", ""):
                self._answer(200, "text/event-stream", f"data: {said}\n\ndata: [DONE]\n\n")
            case _:
                self._answer(200, "application/json", whole)

    def _answer(self, status: int, media: str, body: str) -> None:
        content = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(5)


@dataclass
class Visitor:
    """Whoever asks, and all errors that they were told."""

    base: str
    told: list[str] = field(default_factory=list)

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None, **sent: Any) -> Any:
        answer = requests.request(method, self.base + path, headers=headers, timeout=20, **sent)
        if answer.status_code >= 400:
            self.told.append(f"{answer.status_code} {answer.headers} {answer.text}")
        elif "event-stream" in answer.headers.get("content-type", ""):
            self.told.append(answer.text)
        return answer.json() if answer.headers.get("content-type") == "application/json" else answer.text

    def graph(self, query: str, headers: dict[str, str] | None = None, **variables: object) -> Any:
        answer = requests.post(
            f"{self.base}/graphql", json={"query": query, "variables": variables}, headers=headers, timeout=20
        )
        found = answer.json()
        payloads = (found.get("data") or {}).values()
        if "errors" in found or any(isinstance(payload, dict) and payload.get("errors") for payload in payloads):
            self.told.append(answer.text)
        return found

    def socket(self, payload: object, *messages: object) -> None:
        url = self.base.replace("http", "ws") + "/graphql"
        with connect(url, subprotocols=[Subprotocol("graphql-transport-ws")], proxy=None) as socket:
            try:
                for message in ({"type": "connection_init", "payload": payload}, *messages):
                    socket.send(json.dumps(message))
                    self.told.append(str(socket.recv(timeout=5)))
            except websockets.ConnectionClosed as error:
                self.told.append(str(error))


REGISTER = "mutation($input: RegisterInput!) { register(input: $input) { errors { message path } } }"
LOGIN = "mutation($input: LoginInput!) { login(input: $input) { errors { message path } } }"
KEEP = "mutation($input: SetProviderKeyInput!) { setProviderKey(input: $input) { errors { message path } } }"
REFRESH = "mutation($token: String!) { refreshToken(input: {refreshToken: $token}) { errors { message } } }"
CHANGE = "mutation($input: UpdateProviderInput!) { updateProvider(input: $input) { errors { message path } } }"
REVOKE_KEY = "mutation($id: ID!) { revokeApiKey(input: {id: $id}) { errors { message } } }"


def sign_ins(visitor: Visitor, canaries: Canaries) -> dict[str, str]:
    """People come in by every door, rightly and wrongly; the headers of one who may."""
    ann = {"email": "ann@example.com", "password": canaries.plant("password")}
    visitor.ask("POST", "/v1/users/register", json=ann)
    visitor.ask("POST", "/v1/users/register", json=ann)
    visitor.graph(REGISTER, input=ann)
    for word in ("wrong password", "other wrong password"):
        wrong = {**ann, "password": canaries.plant(word)}
        visitor.ask("POST", "/v1/users/login", json=wrong)
        visitor.graph(LOGIN, input=wrong)
        visitor.graph(LOGIN, input={**wrong, "email": "nobody@example.com"})
    long = canaries.plant("long password") * 40
    visitor.ask("POST", "/v1/users/register", json={"email": "long@example.com", "password": long})
    visitor.graph(REGISTER, input={"email": "long@example.com", "password": long})
    misplaced = canaries.plant("misplaced password")
    visitor.ask("POST", "/v1/users/login", json={"email": misplaced, "password": ""})
    visitor.ask("POST", "/v1/users/login", json={"email": "ann@example.com", "password": [misplaced]})
    visitor.ask("POST", "/v1/users/login", data=f'{{"email": "ann@example.com", "password": "{misplaced}')
    for value in ([misplaced], {"a": misplaced}, {misplaced: 1}):
        visitor.graph(LOGIN, input={"email": "ann@example.com", "password": value})
    visitor.graph(LOGIN, input=misplaced)
    visitor.graph(LOGIN, input={"email": "ann@example.com", "password": "a", "pass": misplaced})
    for literal in (f'["{misplaced}"]', f'{{a: "{misplaced}"}}', f'"{misplaced}'):
        visitor.graph(f'mutation {{ login(input: {{email: "a", password: {literal}}}) {{ errors {{ message }} }} }}')
    answer = visitor.ask("POST", "/v1/users/login", json=ann)
    canaries.note("access token", answer["access_token"].rpartition(".")[2])
    canaries.note("refresh token", answer["refresh_token"].removeprefix("rt_"))
    return {"Authorization": f"Bearer {answer['access_token']}"}


def tokens(visitor: Visitor, canaries: Canaries) -> None:
    """Tokens are renewed, used again, revoked, forged and put where they do not belong."""
    guest = visitor.ask("POST", "/llm/auth/guest-login")
    canaries.note("guest's access token", guest["access_token"].rpartition(".")[2])
    canaries.note("guest's refresh token", guest["refresh_token"].removeprefix("rt_"))
    renewed = visitor.ask("POST", "/llm/auth/refresh", json={"refresh_token": guest["refresh_token"]})
    canaries.note("renewed token", renewed["access_token"].rpartition(".")[2])
    canaries.note("renewed refresh token", renewed["refresh_token"].removeprefix("rt_"))
    visitor.graph(REFRESH, token=guest["refresh_token"])
    forged = f"{guest['access_token'].rpartition('.')[0]}.{canaries.plant('forged signature').replace('/+&', '')}"
    refresh = canaries.plant("forged refresh token", "rt_{}")
    for token in (forged, refresh, guest["access_token"][:-4]):
        headers = {"Authorization": f"Bearer {token}"}
        visitor.ask("GET", "/v1/conversations", headers)
        visitor.ask("GET", "/v1/models", headers)
        visitor.ask("POST", "/llm/auth/refresh", json={"refresh_token": token})
        visitor.ask("POST", "/llm/auth/revoke", json={"token": token})
        visitor.ask("GET", "/v1/conversations", params={"access_token": token, "limit": token, "after": token})
        visitor.graph("{ viewer { id } }", headers)
        visitor.graph(REFRESH, token=token)
        visitor.socket({"Authorization": f"Bearer {token}"})
        visitor.socket({"Authorization": [token]})
    headers = {"Authorization": f"Bearer {guest['access_token']}", "X-API-Key": forged}
    visitor.ask("GET", "/v1/conversations", headers)
    visitor.graph("{ viewer { id } }", headers)
    visitor.socket(headers)
    visitor.ask(
        "POST", "/llm/auth/revoke", {"Authorization": headers["Authorization"]}, json={"token": guest["access_token"]}
    )
    visitor.ask("GET", "/v1/conversations", {"Authorization": headers["Authorization"]})


def api_keys(visitor: Visitor, canaries: Canaries, ann: dict[str, str]) -> None:
    """API keys are made, used, mistyped, put where an id belongs, and revoked."""
    key = visitor.ask("POST", "/llm/auth/api-keys", ann, json={"name": "Key", "scopes": ["read"]})
    secret = key["key"]
    # Before it come the parts that are shown in lists.
    canaries.note("API key", secret[secret.rindex("_") + 13 :])
    for wrong in (secret, secret[:-1] + "?", secret[:-8] + "AAAAAAAA"):
        for headers in ({"X-API-Key": wrong}, {"Authorization": f"Bearer {wrong}"}):
            visitor.ask("GET", "/v1/conversations", headers)
            visitor.ask("POST", "/v1/conversations", headers, json={})
            visitor.graph("mutation { createConversation(input: {}) { errors { message } } }", headers)
            visitor.socket(headers)
        visitor.ask("DELETE", f"/llm/auth/api-keys/{wrong}", ann)
        visitor.ask("DELETE", f"/v1/users/tokens/{wrong}", ann)
        visitor.ask("POST", "/llm/auth/revoke", ann, json={"token": wrong})
        visitor.graph(REVOKE_KEY, ann, id=wrong)
        visitor.ask("GET", "/v1/conversations", params={"api_key": wrong, "limit": wrong})
    visitor.ask("DELETE", f"/llm/auth/api-keys/{key['id']}", ann)
    visitor.ask("GET", "/v1/conversations", {"X-API-Key": secret})


def provider_keys(visitor: Visitor, canaries: Canaries, ann: dict[str, str]) -> str:
    """Users' own keys are kept and refused; the one that is kept."""
    kept = canaries.plant("provider key", "sk-{}")
    visitor.ask("POST", "/v1/users/provider-keys", ann, json={"provider": "nobody", "api_key": kept})
    visitor.ask("POST", "/v1/users/provider-keys", ann, json={"provider": kept, "api_key": "sk"})
    visitor.ask("POST", "/v1/users/provider-keys", ann, json={"provider": "openai", "api_key": [kept]})
    visitor.ask(
        "POST", "/v1/users/provider-keys", ann, json={"provider": "openai", "api_key": kept, "credential_type": kept}
    )
    visitor.ask("DELETE", f"/v1/users/provider-keys/{kept.replace('/', '')}", ann)
    for value in (kept + "\n", kept * 200, [kept]):
        visitor.graph(KEEP, ann, input={"provider": "openai", "apiKey": value})
    visitor.graph(KEEP, ann, input={"provider": "openai", "apiKey": kept})
    visitor.ask("GET", "/v1/users/provider-keys", ann)
    return kept


def providers(visitor: Visitor, canaries: Canaries, root: dict[str, str], model: Upstream) -> None:
    """Administrators add an upstream rightly and wrongly, it fails in every way, and its key is replaced."""
    kept, later = canaries.plant("key of a provider", "sk-{}"), canaries.plant("later key of a provider", "sk-{}")
    path = "/v1/admin/providers"
    new = {"name": "house", "vendor": "vllm", "base_url": model.url, "api_key": kept}
    wrong: list[dict[str, object]] = [
        {"name": kept}, {"vendor": kept}, {"base_url": f"http://me:{kept}@127.0.0.1/"}, {"base_url": f"ftp://{kept}/"},
        {"api_key": [kept]}, {"api_key": kept + "\n x"}, {"api_key": kept * 200}, {"base_url": f"http://10.0.0.1/?{kept}"},
    ]  # fmt: skip
    for change in wrong:
        visitor.ask("POST", path, root, json={**new, **change})
    visitor.ask("POST", path, root, json=new)
    visitor.ask("POST", path, root, json=new)
    for how in ("answer", "refuse", "break", "garble", "cut"):
        asked = {"model": "house/echo", "messages": [{"role": "user", "content": how}], "stream": how == "cut"}
        visitor.ask("POST", "/v1/chat/completions", root, json=asked)
    assert kept in model.keys
    visitor.ask("PATCH", f"{path}/house", root, json={"api_key": later})
    visitor.graph(CHANGE, root, input={"id": "house", "apiKey": later + " "})
    visitor.graph(CHANGE, root, input={"id": "house", "apiKey": [later]})
    visitor.ask("POST", f"{path}/house/test", root)
    visitor.ask("POST", f"{path}/{later.replace('/', '')}/test", root)
    visitor.ask("DELETE", f"{path}/house", root)


def completions(visitor: Visitor, canaries: Canaries, headers: dict[str, str]) -> None:
    """Models are asked, and fail in every way, with prompts that are nobody's business."""
    # In between it answers, so that it is not thought dead: of a dead one nothing is asked.
    for number, how in enumerate(("answer", "refuse", "break", "answer", "garble", "answer", "cut", "answer")):
        for stream in (False, True):
            prompt = canaries.plant(f"prompt {number} to {how}, stream={stream}", how + " {}")
            asked = {"model": "echo", "messages": [{"role": "user", "content": prompt}], "stream": stream}
            visitor.ask("POST", "/v1/chat/completions", headers, json=asked)
    prompt = canaries.plant("prompt in a bad request")
    wrong: list[dict[str, object]] = [
        {"messages": prompt},
        {"messages": [prompt]},
        {"messages": [{"role": prompt, "content": "a"}]},
        {"messages": [{"role": "user", "content": {"a": prompt}}]},
        {"messages": [{"role": "user", "content": "a"}], "temperature": prompt},
        {"messages": [{"role": "user", "content": "a"}], "stream": prompt},
        {"messages": [{"role": "user", "content": prompt + "\x00"}]},
    ]
    for body in wrong:
        visitor.ask("POST", "/v1/chat/completions", headers, json=body)
    visitor.ask("POST", "/v1/chat/completions", headers, data=f'{{"messages": [{{"content": "{prompt}')


def broken_database(visitor: Visitor, canaries: Canaries, ann: dict[str, str], file: Path) -> None:
    """The tables go away under those who are at work."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TRIGGER away BEFORE INSERT ON users BEGIN SELECT RAISE(ABORT, 'away'); END")
        for table in ("refresh_tokens", "api_keys", "provider_keys", "conversations"):
            connection.execute(f"ALTER TABLE {table} RENAME TO {table}_away")
    late = {"email": "late@example.com", "password": canaries.plant("late password")}
    visitor.ask("POST", "/v1/users/register", json=late)
    visitor.graph(REGISTER, input=late)
    visitor.ask("POST", "/llm/auth/guest-login")
    visitor.ask(
        "POST",
        "/llm/auth/refresh",
        json={"refresh_token": canaries.plant("late refresh token", "rt_{}").replace("&", "")},
    )
    visitor.ask("POST", "/llm/auth/api-keys", ann, json={"name": canaries.plant("late name")})
    key = canaries.plant("late provider key", "sk-{}")
    visitor.ask("POST", "/v1/users/provider-keys", ann, json={"provider": "openai", "api_key": key})
    visitor.graph(KEEP, ann, input={"provider": "openai", "apiKey": key})
    visitor.ask("POST", "/v1/conversations", ann, json={"title": canaries.plant("late title")})


def files(folder: Path, moment: str) -> dict[str, bytes]:
    found = {f"{path.name} {moment}": path.read_bytes() for path in folder.glob("loquent.db*")}
    assert f"loquent.db {moment}" in found
    return found


@pytest.mark.timeout(120)
def test_no_secret_is_found_in_logs_errors_metrics_or_files(tmp_path: Path) -> None:
    canaries, said, places = Canaries(), list[str](), dict[str, bytes]()
    operators = canaries.plant("operator's key", "sk-{}")
    with upstream() as model:
        environment = {
            "LOG_LEVEL": "debug",
            "OPENAI_BASE_URL": model.url,
            "OPENAI_API_KEY": operators,
            "PROVIDER_NETWORKS": "127.0.0.0/8",
            "REDIS_URL": canaries.plant("password of Redis", "redis://:{}@" + NOWHERE).replace("/+&", "%2F%2B%26"),
            "ADMIN_EMAIL": "root@example.com",
            "ADMIN_PASSWORD": canaries.plant("administrator's password"),
            **dict.fromkeys(("RATE_LIMIT", "GUEST_RATE_LIMIT", "ADDRESS_RATE_LIMIT", "LOGIN_RATE_LIMIT"), "500"),
        }
        with served(tmp_path, environment, said) as base:
            visitor = Visitor(base)
            ann = sign_ins(visitor, canaries)
            tokens(visitor, canaries)
            api_keys(visitor, canaries, ann)
            completions(visitor, canaries, ann)
            assert set(model.keys) == {operators}
            login = {"email": environment["ADMIN_EMAIL"], "password": environment["ADMIN_PASSWORD"]}
            token = visitor.ask("POST", "/v1/users/login", json=login)["token"]
            canaries.note("administrator's token", token.rpartition(".")[2])
            providers(visitor, canaries, {"Authorization": f"Bearer {token}"}, model)
            own = provider_keys(visitor, canaries, ann)
            model.keys.clear()
            completions(visitor, canaries, ann)
            assert set(model.keys) == {own}
            places |= files(tmp_path, "while running")
            broken_database(visitor, canaries, ann, tmp_path / "loquent.db")
            places["metrics"] = requests.get(f"{base}/metrics", timeout=5).content
            places |= files(tmp_path, "after the faults")
        places |= files(tmp_path, "at the end")
    for path in tmp_path.iterdir():
        if not path.name.startswith("loquent.db"):
            lines = [line for line in path.read_text().splitlines() if not line.startswith("-")]
            canaries.note(path.name, max(lines, key=len))
    places["output"] = "".join(said).encode()
    places |= {f"error {number}": text.encode() for number, text in enumerate(visitor.told)}
    assert len(visitor.told) > 100
    # Otherwise the worst was not tried.
    for event in ("sign-in refused", "limits counted locally", "storage unavailable", "request failed", "generation"):
        assert f'"event":"{event}"'.encode() in places["output"]
    assert canaries.found(places) == []


def test_password_of_a_database_that_is_away_is_not_told(tmp_path: Path) -> None:
    canaries = Canaries()
    secret = canaries.plant("password of the database").replace("/+&", "")
    done = subprocess.run(
        [sys.executable, "-m", "server", "serve", "--port", "0"],
        cwd=Path(__file__).parent.parent,
        env={
            "PATH": "",
            "LOG_LEVEL": "debug",
            "LOQUENT_DATA": str(tmp_path),
            "DATABASE_URL": f"postgresql://ann:{secret}@{NOWHERE}/loquent",
        },
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert canaries.found({"output": done.stdout + done.stderr}) == []


@pytest.mark.parametrize(
    "text",
    [
        "before {} after",
        "{}",
        "only a part: {part}",
        "{quoted}",
        "{hexadecimal}",
        "{base64}",
        "{inside}",
    ],
)
def test_canary_is_found_in_every_writing(text: str) -> None:
    canaries = Canaries()
    secret = canaries.plant("secret")
    written = text.format(
        secret,
        part=secret[5:17],
        quoted=quote(secret, safe=""),
        hexadecimal=secret.encode().hex(),
        base64=base64.b64encode(secret.encode()).decode(),
        inside=base64.urlsafe_b64encode(f"ann:{secret}".encode()).decode(),
    )
    assert canaries.found({"here": written.encode()}) != []
    assert canaries.found({"here": written.encode()[:11]}) == []
