"""The first family's documents on the administration of MCP tools: each example as it stands, then the same through GraphQL."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.served import served
from tests.spec.conftest import Ask

ACCOUNT = {"email": "root@example.com", "password": "the password of root"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose operator has configured the MCP server that has the examples' tools."""
    folder = tmp_path_factory.mktemp("tools")
    config = folder / "loquent.yaml"
    config.write_text(
        json.dumps({"mcp_servers": {"house": {"command": sys.executable, "args": ["-m", "tests.tool_server"]}}}),
        encoding="utf-8",
    )
    environment = {"LOQUENT_CONFIG": str(config), "ADMIN_EMAIL": ACCOUNT["email"]}
    environment |= {"ADMIN_PASSWORD": ACCOUNT["password"], "PYTHONPATH": str(Path(__file__).parents[2])}
    with served(folder, environment) as address:
        yield address


@pytest.fixture(scope="module")
def admin_token(base: str) -> str:
    login = requests.post(f"{base}/v1/users/login", json=ACCOUNT, timeout=10)
    token: str = login.json()["token"]
    # Servers of tools are asked behind the start; asked once more, the answer waits for them.
    found = _asked(base, token, "{ admin { toolServers { id name } } }", {})["admin"]["toolServers"]
    ids = {server["name"]: server["id"] for server in found}
    refresh = "mutation($id: ID!) { refreshToolServer(input: {id: $id}) { toolServer { state } } }"
    for _ in range(10):
        answer = _asked(base, token, refresh, {"id": ids["house"]})
        if answer["refreshToolServer"]["toolServer"]["state"] == "AVAILABLE":
            break
    return token


def _asked(base: str, token: str, query: str, variables: dict[str, object]) -> Any:
    headers = {"Authorization": f"Bearer {token}"}
    body = {"query": query, "variables": variables}
    return requests.post(f"{base}/graphql", json=body, headers=headers, timeout=10).json()["data"]


@pytest.fixture
def admin_headers(admin_token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {admin_token}"}


def test_tools_are_listed(base: str, admin_headers: dict[str, str]) -> None:
    response = requests.get(f"{base}/v1/admin/mcp/tools", headers=admin_headers, timeout=10)
    tools = response.json()["data"]
    lines = [f"- {tool['name']}: {'✓ Enabled' if tool['enabled'] else '✗ Disabled'}" for tool in tools]
    assert lines[:4] == [
        "- calculator: ✓ Enabled",
        "- current_time: ✓ Enabled",
        "- web_scraper: ✓ Enabled",
        "- code_executor: ✓ Enabled",
    ]


def test_tool_is_disabled_and_not_offered_any_more(
    base: str, headers: dict[str, str], admin_headers: dict[str, str]
) -> None:
    tool_id = "web_scraper"
    response = requests.patch(
        f"{base}/v1/admin/mcp/tools/{tool_id}",
        json={"enabled": False, "reason": "Safety review"},
        headers=admin_headers,
        timeout=10,
    )
    tool = response.json()["data"]
    assert f"Tool disabled: {tool['name']}" == "Tool disabled: web_scraper"
    assert (tool["enabled"], tool["is_active"], tool["reason"]) == (False, False, "Safety review")
    assert requests.get(f"{base}/v1/mcp-tools/{tool_id}", headers=headers, timeout=10).status_code == 404
    back = requests.patch(
        f"{base}/v1/admin/mcp/tools/{tool['id']}", json={"enabled": True}, headers=admin_headers, timeout=10
    ).json()["data"]
    assert (back["enabled"], back["reason"]) == (True, None)
    assert requests.get(f"{base}/v1/mcp-tools/{tool_id}", headers=headers, timeout=10).status_code == 200


def test_content_filter_is_updated(base: str, admin_headers: dict[str, str]) -> None:
    tool_id = "code_executor"
    response = requests.patch(
        f"{base}/v1/admin/mcp/tools/{tool_id}",
        json={
            "content_filter": {
                "disallowed_keywords": ["rm -rf", "drop table", "delete from"],
                "require_approval_for": ["system_calls"],
            }
        },
        headers=admin_headers,
        timeout=10,
    )
    updated_tool = response.json()["data"]
    assert updated_tool["content_filter"] == {
        "disallowed_keywords": ["rm -rf", "drop table", "delete from"],
        "require_approval_for": ["system_calls"],
    }
    # The tool's server says that this is of such a kind.
    assert updated_tool["tags"] == ["destructive", "system_calls"]
    assert updated_tool["requires_approval"] is True


def test_same_through_graphql(base: str, ask: Ask, admin_headers: dict[str, str]) -> None:
    answer = ask("{ admin { tools(first: 4) { edges { node { tool { id name isEnabled } } } } } }", admin_headers)
    found: list[dict[str, Any]] = [edge["node"]["tool"] for edge in answer["admin"]["tools"]["edges"]]
    assert [(tool["name"], tool["isEnabled"]) for tool in found] == [
        ("calculator", True),
        ("current_time", True),
        ("web_scraper", True),
        ("code_executor", True),
    ]
    update = """mutation($input: UpdateToolInput!) { updateTool(input: $input) {
        tool { reason requireApproval contentFilter { disallowedKeywords requireApprovalFor }
            tool { name isEnabled needsApproval } }
        errors { message }
    } }"""
    disabled = ask(update, admin_headers, input={"id": found[2]["id"], "isEnabled": False, "reason": "Safety review"})[
        "updateTool"
    ]
    assert disabled == {
        "tool": {
            "reason": "Safety review",
            "requireApproval": None,
            "contentFilter": {"disallowedKeywords": [], "requireApprovalFor": []},
            "tool": {"name": "web_scraper", "isEnabled": False, "needsApproval": False},
        },
        "errors": [],
    }
    rules = {"disallowedKeywords": ["rm -rf"], "requireApprovalFor": ["system_calls"]}
    filtered = ask(update, admin_headers, input={"id": "code_executor", "contentFilter": rules})["updateTool"]
    assert filtered["tool"]["contentFilter"] == rules
    assert filtered["tool"]["tool"]["needsApproval"] is True
    again = ask(update, admin_headers, input={"id": "web_scraper", "isEnabled": True})["updateTool"]
    assert again["tool"]["tool"]["isEnabled"] is True
