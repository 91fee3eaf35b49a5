"""No secret of a tool server, and nothing that is said to a tool, leaves by the back door."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.canaries import Canaries
from tests.served import served
from tests.test_secrets import NOWHERE, Visitor, files, upstream

ADD = "mutation($input: AddToolServerInput!) { addToolServer(input: $input) { toolServer { id problem } errors { message } } }"
REFRESH = (
    "mutation($id: ID!) { refreshToolServer(input: {id: $id}) { toolServer { state problem } errors { message } } }"
)
LIST = "{ admin { toolServers { id name url headerNames state problem } } }"


def configured(canaries: Canaries, url: str) -> dict[str, object]:
    """Servers that are healthy, that repeat what they are sent, and that say their secrets aloud and die."""
    aloud = "import os, sys; print(os.environ['KEY'], sys.argv); print(os.environ['KEY'], file=sys.stderr); sys.exit(1)"
    return {
        "house": {
            "command": sys.executable,
            "args": ["-m", "tests.tool_server"],
            "env": {"TOKEN": canaries.plant("environment of a process")},
        },
        "loud": {
            "command": sys.executable,
            "args": ["-c", aloud, canaries.plant("argument of a process")],
            "env": {"KEY": canaries.plant("environment of a loud process")},
        },
        "echo": {
            "url": f"{url}?token={canaries.plant('secret in an address').replace('/+&', '')}",
            "headers": {"Authorization": canaries.plant("header", "Bearer {}")},
        },
    }


def administration(visitor: Visitor, canaries: Canaries, root: dict[str, str]) -> None:
    for header in (canaries.plant("added header"), canaries.plant("broken header") + "\n"):
        for url in (f"http://{NOWHERE}/mcp", "file:///etc/passwd"):
            given = {"name": f"added{len(visitor.told)}", "url": url, "headers": [{"name": "X-Key", "value": header}]}
            visitor.graph(ADD, root, input=given)
    address = canaries.plant("password in an address", "https://me:{}@example.com/mcp").replace("/+&", "")
    visitor.graph(ADD, root, input={"name": "address", "url": address})
    for server in visitor.graph(LIST, root)["data"]["admin"]["toolServers"]:
        visitor.told.append(json.dumps([server, visitor.graph(REFRESH, root, id=server["id"])]))


def calls(visitor: Visitor, canaries: Canaries, root: dict[str, str]) -> None:
    """Each of them is told in vain, so what was said must be nowhere."""
    visitor.ask("PATCH", "/v1/admin/mcp/tools/code_executor", root, json={"disallowed_keywords": ["stop"]})
    visitor.ask("PATCH", "/v1/admin/mcp/tools/keyed", root, json={"require_approval": True})
    for name, argument in (
        ("code_executor", "code"),
        ("web_scraper", "page"),
        ("failing", "text"),
        ("keyed", "text"),
        ("nothing", "text"),
        ("mortal", "text"),
    ):
        said = canaries.plant(f"argument of {name}", "stop {}")
        call = {"name": name, "arguments": {argument: said}}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
        visitor.ask("POST", "/mcp", root, json=body)
        visitor.ask("POST", "/mcp", root, data=json.dumps(body)[:-3])
        visitor.ask("POST", "/mcp", root, json={**body, "jsonrpc": said})


@pytest.mark.timeout(120)
def test_no_secret_of_a_tool_server_is_found_in_logs_errors_metrics_or_files(tmp_path: Path) -> None:
    canaries, said, places = Canaries(), list[str](), dict[str, bytes]()
    with upstream() as echo:
        config = tmp_path / "servers.yaml"
        config.write_text(json.dumps({"mcp_servers": configured(canaries, echo.url)}), encoding="utf-8")
        account = {"email": "root@example.com", "password": canaries.plant("administrator's password")}
        environment = {
            "LOG_LEVEL": "debug",
            "LOQUENT_CONFIG": str(config),
            "ADMIN_EMAIL": account["email"],
            "ADMIN_PASSWORD": account["password"],
        }
        with served(tmp_path, environment, said) as base:
            visitor = Visitor(base)
            answer = visitor.ask("POST", "/v1/users/login", json=account)
            root = {"Authorization": f"Bearer {answer['token']}"}
            administration(visitor, canaries, root)
            calls(visitor, canaries, root)
            places["metrics"] = visitor.ask("GET", "/metrics").encode()
            places["audit"] = json.dumps(
                visitor.graph("{ admin { auditLog(first: 100) { edges { node { action details } } } } }", root)
            ).encode()
            places |= files(tmp_path, "while running")
            assert len(echo.keys) > 0
        places |= files(tmp_path, "at the end")
    places["output"] = "".join(said).encode()
    places |= {f"answer {number}": text.encode() for number, text in enumerate(visitor.told)}
    # Otherwise the worst was not tried.
    for event in ("tool server", "tool call filtered"):
        assert f'"event":"{event}"'.encode() in places["output"]
    assert b"tool.call" in places["audit"]
    assert canaries.found(places) == []
