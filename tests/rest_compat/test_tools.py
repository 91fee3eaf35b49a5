"""The administration of tools over REST and GraphQL, with a real MCP server: it has effect at once, everywhere, and is audited."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from db.models import Role
from engine.tools.base import Tool, ToolError, ToolErrorCode
from engine.tools.keeper import Doors
from tests import tool_server
from tests.house import House, house
from tests.tool_server import Served

pytestmark = pytest.mark.anyio

SECRET = "Bearer hunter2-hunter2"
UPDATE = "mutation($input: UpdateToolInput!) { updateTool(input: $input) { tool { tool { name } } errors { message path code } } }"
SERVER = "id name transport url headerNames tags isConfigured isEnabled state problem"


@pytest.fixture
async def web(anyio_backend: str) -> AsyncIterator[Served]:
    async with tool_server.served() as served:
        yield served


@pytest.fixture
async def home(tmp_path: Path, database_address: str, web: Served, anyio_backend: str) -> AsyncIterator[House]:
    servers = {"web": {"url": web.url, "headers": {"authorization": "Bearer of the operator"}}}
    async with house(tmp_path, database_address, mcp_servers=servers) as found:
        await offering(found, "web_scraper")
        yield found


async def offering(found: House, name: str) -> Tool:
    with anyio.fail_after(20):
        while True:
            tool = next((one for one in found.services.toolbox.enabled() if one.name == name), None)
            if tool is not None:
                return tool
            await anyio.sleep(0.01)


async def asked(client: httpx2.AsyncClient, query: str, **variables: object) -> Any:
    answer = (await client.post("/graphql", json={"query": query, "variables": variables})).json()
    assert "errors" not in answer, answer
    return answer["data"]


async def changed_server(client: httpx2.AsyncClient, field: str, **input: object) -> Any:
    kind = {"addToolServer": "AddToolServerInput", "updateToolServer": "UpdateToolServerInput"}.get(
        field, "ToolServerInput"
    )
    query = f"mutation($input: {kind}!) {{ {field}(input: $input) {{ toolServer {{ {SERVER} }} errors {{ message path }} }} }}"
    with anyio.fail_after(20):
        return (await asked(client, query, input=input))[field]


async def test_users_see_what_models_may_be_offered(home: House) -> None:
    person = await home.person("ada")
    tools = (await person.get("/v1/mcp-tools")).json()
    assert (tools["object"], tools["total"], tools["has_more"]) == ("list", len(tools["data"]), False)
    found = {tool["name"]: tool for tool in tools["data"]}
    assert "distant" not in found
    scraper = found["web_scraper"]
    assert (await person.get("/v1/mcp-tools/web_scraper")).json() == {**scraper, "data": scraper}
    assert scraper == {
        "id": scraper["id"],
        "public_id": scraper["id"],
        "object": "mcp_tool",
        "name": "web_scraper",
        "tool_key": "web_scraper",
        "title": "",
        "description": "Reads a page.",
        "server": "web",
        "category": None,
        "tags": ["read_only", "open_world"],
        "enabled": True,
        "is_active": True,
        "requires_approval": False,
        "parameters": scraper["parameters"],
        "created_at": scraper["created_at"],
        "updated_at": scraper["updated_at"],
    }
    assert scraper["parameters"]["properties"]["url"]["type"] == "string"
    listed = await asked(
        person, "{ tools(first: 3) { edges { node { id name server } } pageInfo { hasNextPage endCursor } } }"
    )
    assert [edge["node"]["name"] for edge in listed["tools"]["edges"]] == ["calculator", "current_time", "web_scraper"]
    rest = await asked(
        person,
        "query($after: String) { tools(first: 1, after: $after) { edges { node { name } } } }",
        after=listed["tools"]["pageInfo"]["endCursor"],
    )
    assert [edge["node"]["name"] for edge in rest["tools"]["edges"]] == ["code_executor"]
    node = await asked(
        person, "query($id: ID!) { node(id: $id) { ... on Tool { name needsApproval } } }", id=scraper["id"]
    )
    assert node["node"] == {"name": "web_scraper", "needsApproval": False}


async def test_administrators_see_all_and_filter(home: House) -> None:
    root = await home.person("root", Role.ADMIN)
    everything = (await root.get("/v1/admin/mcp-tools")).json()
    by_name = {tool["name"]: tool for tool in everything["data"]}
    assert (by_name["distant"]["available"], by_name["distant"]["problem"]) == (
        False,
        "The schema of its arguments cannot be used. It refers to another schema, which is not fetched",
    )
    page = (await root.get("/v1/admin/mcp-tools", params={"limit": 2, "offset": 1, "is_active": "true"})).json()
    assert [tool["name"] for tool in page["data"]] == ["current_time", "web_scraper"]
    assert (page["has_more"], page["total"]) == (True, everything["total"])
    found = (await root.get("/v1/admin/mcp/tools", params={"search": "READS a page"})).json()
    assert [tool["name"] for tool in found["data"]] == ["web_scraper"]
    await root.patch("/v1/admin/mcp-tools/web_scraper", json={"category": "scrape"})
    found = (await root.get("/v1/admin/mcp/tools", params={"category": "scrape"})).json()
    assert [tool["name"] for tool in found["data"]] == ["web_scraper"]
    one = await root.get(f"/v1/admin/mcp-tools/{by_name['web_scraper']['public_id']}")
    assert one.json()["data"]["category"] == "scrape"


async def test_a_change_has_effect_on_calls_at_once_and_is_audited(home: House) -> None:
    root = await home.person("root", Role.ADMIN)
    box = home.services.toolbox
    tool = await offering(home, "code_executor")
    assert (await box.call(tool, {"code": "drop table a"}, key="call_1")).text == "ran drop table a"
    change = {"disallowed_keywords": ["DROP table"], "is_active": True, "metadata": {"owner": "ops"}}
    answer = (await root.patch(f"/v1/admin/mcp-tools/{tool.id}", json={**change, "description": "Runs it."})).json()[
        "data"
    ]
    assert (answer["disallowed_keywords"], answer["metadata"]) == (["DROP table"], {"owner": "ops"})
    with pytest.raises(ToolError) as caught:
        await box.call(tool, {"code": "drop  TABLE a"}, key="call_2")
    assert caught.value.code is ToolErrorCode.FILTERED
    now = box.find("code_executor")
    assert now is not None
    assert (now.description, list(now.disallowed_words)) == ("Runs it.", ["DROP table"])
    await root.patch("/v1/admin/mcp/tools/code_executor", json={"enabled": False, "reason": "review"})
    with pytest.raises(ToolError) as caught:
        await box.call(tool, {"code": "1"}, key="call_3")
    assert caught.value.code is ToolErrorCode.DISABLED
    log = await asked(root, "{ admin { auditLog(first: 2) { edges { node { action targetId details } } } } }")
    assert [edge["node"] for edge in log["admin"]["auditLog"]["edges"]] == [
        {
            "action": "tool.update",
            "targetId": tool.id,
            "details": {
                "name": "code_executor",
                "changed": ["is_enabled", "reason"],
                "now": {"is_enabled": False, "reason": "review"},
            },
        },
        {
            "action": "tool.update",
            "targetId": tool.id,
            "details": {
                "name": "code_executor",
                "changed": ["details", "disallowed_keywords", "is_enabled", "own_description", "reason"],
                "now": {"is_enabled": True, "reason": None},
            },
        },
    ]


async def test_another_process_learns_of_a_change(home: House, tmp_path: Path, database_address: str) -> None:
    root = await home.person("root", Role.ADMIN)
    async with house(tmp_path, database_address) as other:
        assert [tool.name for tool in other.services.toolbox.enabled()] == ["calculator", "current_time"]
        await root.patch("/v1/admin/mcp/tools/calculator", json={"enabled": False})
        with anyio.fail_after(10):
            while len(other.services.toolbox.enabled()) != 1:  # noqa: ASYNC110 - nobody tells the test
                await anyio.sleep(0.02)
        assert [tool.name for tool in other.services.toolbox.enabled()] == ["current_time"]


BAD_CHANGES: list[tuple[dict[str, object], str]] = [
    ({"enabled": "no"}, "Expected `bool`"),
    ({"enabled": True, "is_active": False}, "is_active is given twice, and not alike"),
    ({"disallowed_keywords": [" \u200b "]}, "A keyword needs something that can be seen"),
    ({"disallowed_keywords": ["(?i)"]}, "A keyword needs something that can be seen"),
    ({"disallowed_keywords": ["x" * 201]}, "disallowed_keywords is longer than 200 characters"),
    ({"disallowed_keywords": ["a"] * 201}, "disallowed_keywords may have 200 entries"),
    ({"content_filter": {"require_approval_for": [""]}}, "require_approval_for must not be empty"),
    ({"content_filter": []}, "Expected `object`"),
    ({"reason": "x" * 1001}, "reason is longer than 1000 characters"),
    ({"metadata": {"a": "x" * 20_000}}, "metadata is larger than 16384 bytes"),
]


async def test_a_change_that_does_not_hold_is_refused(home: House) -> None:
    root = await home.person("root", Role.ADMIN)
    before = (await root.get("/v1/admin/mcp/tools/code_executor")).json()["data"]
    for change, message in BAD_CHANGES:
        answer = await root.patch("/v1/admin/mcp/tools/code_executor", json=change)
        assert (answer.status_code, message in answer.json()["message"]) == (400, True), (change, answer.json())
    assert (await root.get("/v1/admin/mcp/tools/code_executor")).json()["data"] == before


async def test_what_is_not_there_is_not_found(home: House) -> None:
    root, person = await home.person("root", Role.ADMIN), await home.person("ada")
    for path in ("/v1/admin/mcp/tools/nothing", "/v1/admin/mcp-tools/tool_nothing", "/v1/mcp-tools/nothing"):
        answer = await root.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert (await root.patch("/v1/admin/mcp/tools/nothing", json={"enabled": False})).status_code == 404
    assert (await person.get("/v1/admin/mcp/tools")).status_code == 403
    assert (await person.patch("/v1/admin/mcp/tools/calculator", json={"enabled": False})).status_code == 403
    wrong = await asked(root, UPDATE, input={"id": "nothing", "isEnabled": False})
    assert wrong["updateTool"]["errors"] == [
        {"message": "tool not found", "path": ["input", "id"], "code": "NOT_FOUND"}
    ]


async def test_administrators_add_servers_whose_headers_nobody_sees(home: House, tmp_path: Path) -> None:
    root = await home.person("root", Role.ADMIN)
    async with tool_server.served(is_json=True) as other:
        refused = await changed_server(root, "addToolServer", name="other", url=other.url)
        # It is on this machine, which is no public address; nothing has reached it.
        assert (refused["toolServer"]["state"], refused["toolServer"]["problem"], other.headers) == (
            "UNAVAILABLE",
            "The address cannot be reached, or is not a public one",
            {},
        )
        await changed_server(root, "deleteToolServer", id=refused["toolServer"]["id"])
        open_doors(home)
        headers = [{"name": "Authorization", "value": SECRET}]
        made = await changed_server(
            root, "addToolServer", name="other", url=other.url, headers=headers, tags=["outside"]
        )
        server = made["toolServer"]
        assert made == {
            "toolServer": {
                "id": server["id"],
                "name": "other",
                "transport": "HTTP",
                "url": other.url,
                "headerNames": ["Authorization"],
                "tags": ["outside"],
                "isConfigured": False,
                "isEnabled": True,
                "state": "AVAILABLE",
                "problem": "",
            },
            "errors": [],
        }
        assert other.headers["authorization"] == SECRET
        tool = await offering(home, "other__web_scraper")
        assert list(tool.tags) == ["read_only", "open_world", "outside"]
        assert (await home.services.toolbox.call(tool, {"url": "b"}, key="call_1")).text == "the text of b"
        # Switched off, it has no tools; on again, the same ones.
        off = await changed_server(root, "updateToolServer", id=server["id"], isEnabled=False)
        assert off["toolServer"]["state"] == "DISABLED"
        assert home.services.toolbox.find("other__web_scraper") is None
        on = await changed_server(root, "updateToolServer", id=server["id"], isEnabled=True)
        assert on["toolServer"]["state"] == "AVAILABLE"
        assert (await offering(home, "other__web_scraper")).id == tool.id
        elsewhere = await changed_server(root, "updateToolServer", id=server["id"], url="https://example.com/mcp")
        assert elsewhere == {
            "toolServer": None,
            "errors": [{"message": "Give the headers again with another url", "path": ["input", "headers"]}],
        }
        other.is_away = True
        away = await changed_server(root, "refreshToolServer", id=server["id"])
        assert (away["toolServer"]["state"], away["toolServer"]["problem"]) == (
            "UNAVAILABLE",
            "The server answered with HTTP status 503",
        )
        gone = await changed_server(root, "deleteToolServer", id=server["id"])
        assert gone["errors"] == []
    names = [one["name"] for one in (await asked(root, "{ admin { toolServers { name } } }"))["admin"]["toolServers"]]
    assert names == ["built-in", "web"]
    assert (await root.get("/v1/admin/mcp/tools/other__web_scraper")).status_code == 404
    log = await asked(root, "{ admin { auditLog { edges { node { action details } } } } }")
    actions = [edge["node"]["action"] for edge in log["admin"]["auditLog"]["edges"]]
    assert [action for action in actions if action.startswith("tool_server")] == [
        "tool_server.delete",
        "tool_server.update",
        "tool_server.update",
        "tool_server.add",
        "tool_server.delete",
        "tool_server.add",
    ]
    assert "hunter2" not in str(log)
    assert not [path.name for path in tmp_path.rglob("*.db*") if SECRET.encode() in path.read_bytes()]


def open_doors(home: House) -> None:
    """From here on this machine counts as public."""
    keeper = home.services.tools
    assert keeper is not None
    keeper._doors = Doors(keeper._doors.configured, keeper._doors.configured)


async def test_a_server_of_the_settings_is_the_operators(home: House) -> None:
    root = await home.person("root", Role.ADMIN)
    servers = (await asked(root, f"{{ admin {{ toolServers {{ {SERVER} }} }} }}"))["admin"]["toolServers"]
    built_in, web = servers
    assert (built_in["name"], built_in["transport"], built_in["state"]) == ("built-in", "BUILT_IN", "AVAILABLE")
    # Of the address only where it is.
    assert web["url"].endswith(web["url"].rpartition(":")[2])
    assert "/mcp" not in web["url"]
    assert (web["headerNames"], web["isConfigured"]) == ([], True)
    assert (await changed_server(root, "updateToolServer", id=web["id"], tags=[]))["errors"] == [
        {"message": "This server stands in the settings of the operator, who alone can change it", "path": None}
    ]
    assert (await changed_server(root, "deleteToolServer", id=web["id"]))["errors"] == [
        {"message": "This server stands in the settings of the operator; it can be switched off", "path": None}
    ]
    off = await changed_server(root, "updateToolServer", id=web["id"], isEnabled=False)
    assert off["toolServer"]["state"] == "DISABLED"
    assert [tool.name for tool in home.services.toolbox.enabled()] == ["calculator", "current_time"]


BAD_SERVERS: list[tuple[dict[str, object], str]] = [
    ({"name": "a b"}, "A name has 1 to 32 letters, digits, _ or -"),
    ({"name": "web"}, "There is a tool server named 'web' already"),
    ({"url": "file:///etc/passwd"}, "The url must be an address of http or https"),
    ({"url": "https://example.com/a b"}, "The url must be an address of http or https"),
    ({"url": "https://me:hunter2@example.com/"}, "A url is no place for secrets; give them as headers"),
    ({"headers": [{"name": "a\nb", "value": "x"}]}, "A header of this name cannot be sent"),
    ({"headers": [{"name": "Host", "value": "x"}]}, "A header of this name cannot be sent"),
    ({"headers": [{"name": "a", "value": "x\r\ny"}]}, "A header is made of printable ASCII characters"),
    ({"headers": [{"name": "a", "value": "x"}, {"name": "A", "value": "y"}]}, "A header is given twice"),
    ({"tags": [""]}, "tags must not be empty"),
]


async def test_a_server_that_does_not_hold_is_not_added(home: House) -> None:
    root = await home.person("root", Role.ADMIN)
    for given, message in BAD_SERVERS:
        input = {"name": "other", "url": "https://example.com/mcp", **given}
        found = await changed_server(root, "addToolServer", **input)
        assert (found["toolServer"], found["errors"][0]["message"]) == (None, message)
    names = [one["name"] for one in (await asked(root, "{ admin { toolServers { name } } }"))["admin"]["toolServers"]]
    assert names == ["built-in", "web"]
