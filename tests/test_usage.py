"""Usage and budgets from end to end: prices from the operator's file, both faces, and the clients that people have."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from db.models import Role
from server.model_list import ConfiguredModel
from tests.house import House, house

pytestmark = pytest.mark.anyio

# 1,000 and 10,000 nanos a token.
PAID = ConfiguredModel.model_validate(
    {
        "model_name": "paid",
        "litellm_params": {"model": "demo/demo", "output_cost_per_token": 1e-5},
        "model_info": {"input_cost_per_token": "1e-6", "output_cost_per_token": 0.01},
    }
)
QUESTION = {"model": "paid", "messages": [{"role": "user", "content": "one two three"}]}
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]
ROW = """fragment Row on UsageRow {
  day month modelName providerName status apiKeyId conversationId userId requests promptTokens completionTokens cachedTokens
  reasoningTokens totalTokens cost isCostComplete exactRequests estimatedRequests unknownRequests
}"""
OWN = f"""query($by: [UsageDimension!]!, $filter: UsageFilter) {{
  usage(by: $by, filter: $filter) {{ hasMore rows {{ ...Row }} }}
}} {ROW}"""
OF_ALL = f"query($by: [UsageDimension!]!) {{ admin {{ usage(by: $by) {{ rows {{ ...Row }} }} }} }} {ROW}"
BUDGETS = "{ viewer { budgets { subjectId period limit spent reserved remaining resetsAt } } }"


@pytest.fixture
async def site(tmp_path: Path, database_address: str) -> AsyncIterator[House]:
    async with house(tmp_path, database_address, model_list=(PAID,)) as found:
        yield found


async def ask(client: httpx2.AsyncClient, query: str, **variables: object) -> Any:
    answer = await client.post("/graphql", json={"query": query, "variables": variables})
    body = answer.json()
    assert "errors" not in body, body
    return body["data"]


async def listed(client: httpx2.AsyncClient, path: str) -> list[dict[str, Any]]:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def billed(site: House) -> None:
    await site.services.supervisor.log.flush()


def in_rest(row: dict[str, Any]) -> dict[str, Any]:
    """A row of GraphQL's as REST tells it: what was not asked for is left out."""
    found = {re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower(): value for name, value in row.items()}
    if found["status"] is not None:
        found["status"] = str(found["status"]).lower()
    renamed = {{"model_name": "model", "provider_name": "provider"}.get(name, name): found[name] for name in found}
    return {name: value for name, value in renamed.items() if value is not None}


async def test_both_faces_tell_the_same_of_what_was_used(site: House) -> None:
    ann, root = await site.person("ann"), await site.person("root", Role.ADMIN)
    made = (await ann.post("/auth/api-keys", json={"name": "key", "scopes": ["read", "write"]})).json()
    key = site.client(x_api_key=made["key"])
    site.demo.enqueue("a", "b")
    site.demo.enqueue("c")
    site.demo.enqueue("d")
    for client in (ann, key):
        assert (await client.post("/v1/chat/completions", json=QUESTION)).status_code == 200
    assert (await root.post("/v1/chat/completions", json=QUESTION)).status_code == 200
    await billed(site)
    me = (await ann.get("/v1/users/me")).json()["id"]
    found = (await ask(ann, OWN, by=["MODEL", "API_KEY"]))["usage"]
    counted = {"cachedTokens": 0, "reasoningTokens": 0, "isCostComplete": True, "requests": 1, "exactRequests": 1}
    nothing = dict.fromkeys(("day", "month", "providerName", "status", "conversationId", "userId"))
    common = nothing | counted | {"modelName": "paid", "estimatedRequests": 0, "unknownRequests": 0, "promptTokens": 3}
    rows = [
        common | {"apiKeyId": made["id"], "completionTokens": 1, "totalTokens": 4, "cost": 0.000013},
        common | {"apiKeyId": None, "completionTokens": 2, "totalTokens": 5, "cost": 0.000023},
    ]
    assert found == {"rows": rows, "hasMore": False}
    assert await ask(ann, OF_ALL, by=["USER"]) == {"admin": None}
    in_both = await listed(ann, "/v1/usage?by=model,api_key")
    assert in_both == [in_rest(rows[0]), in_rest(rows[1]) | {"api_key_id": None}]
    whole = (await ann.get("/v1/usage")).json()
    assert whole == {
        "object": "list",
        "data": [{name: value for name, value in in_rest(rows[0]).items() if name not in ("model", "api_key_id")}
                 | {"requests": 2, "exact_requests": 2, "prompt_tokens": 6, "completion_tokens": 3, "total_tokens": 9,
                    "cost": 0.000036}],
        "from": whole["from"],
        "to": whole["to"],
        "has_more": False,
    }  # fmt: skip
    assert whole["from"].endswith("T00:00:00.000Z")
    everybody = (await ask(root, OF_ALL, by=["USER"]))["admin"]["usage"]["rows"]
    assert {row["userId"]: (row["requests"], row["cost"]) for row in everybody}[me] == (2, 0.000036)
    assert len(everybody) == 2
    assert await listed(root, "/v1/admin/usage?by=user") == [in_rest(row) for row in everybody]
    assert await listed(root, f"/v1/admin/usage?by=user&user_id={me}") == [
        in_rest(row) for row in everybody if row["userId"] == me
    ]
    assert await listed(ann, f"/v1/usage?by=day,month,provider,status&api_key_id={made['id']}") == [
        in_rest(row)
        for row in (await ask(ann, OWN, by=["DAY", "MONTH", "PROVIDER", "STATUS"], filter={"apiKeyId": made["id"]}))[
            "usage"
        ]["rows"]
    ]


async def test_generation_tells_what_it_has_cost(site: House) -> None:
    ann = await site.person("ann")
    site.demo.enqueue("a", "b")
    generate = """mutation {
      generate(input: {content: [{text: "one two three"}], options: {model: "paid"}}) { generation { id cost } }
    }"""
    made = (await ask(ann, generate))["generate"]["generation"]
    run = site.services.supervisor.find(made["id"])
    assert run is not None
    await run.ended()
    query = """query($id: ID!) {
      generation(id: $id) { cost usage { promptTokens cachedTokens reasoningTokens totalTokens cost provenance } }
    }"""
    usage = {"promptTokens": 3, "cachedTokens": 0, "reasoningTokens": 0, "totalTokens": 5, "cost": 0.000023}
    for _ in range(2):
        found = (await ask(ann, query, id=made["id"]))["generation"]
        assert found == {"cost": 0.000023, "usage": usage | {"provenance": "EXACT"}}
        # Once from memory, once from its row.
        site.services.supervisor._forget(run)


async def test_unmodified_client_is_told_that_its_budget_is_spent_and_does_not_insist(site: House) -> None:
    ann, root = await site.person("ann"), await site.person("root", Role.ADMIN)
    me = (await ann.get("/v1/users/me")).json()["id"]
    requests: list[httpx2.Request] = []

    async def note(request: httpx2.Request) -> None:
        requests.append(request)

    async with (
        httpx2.AsyncClient(event_hooks={"request": [note]}) as http,
        openai.AsyncOpenAI(
            base_url=f"{site.url}/v1",
            api_key=ann.headers["authorization"].removeprefix("Bearer "),
            http_client=http,
            max_retries=3,
        ) as sdk,
    ):

        async def said(*, is_streamed: bool) -> None:
            create = sdk.chat.completions.create
            if is_streamed:
                async for _ in await create(model="paid", messages=HELLO, max_tokens=10, stream=True):
                    pass
            else:
                await create(model="paid", messages=HELLO, max_tokens=10)

        await said(is_streamed=False)
        made = await root.put(f"/v1/admin/budgets/{me}/month", json={"limit": 0.0001})
        assert (made.status_code, made.json()["limit"], made.json()["period"]) == (200, 0.0001, "month")
        requests.clear()
        for is_streamed in (False, True):
            with pytest.raises(openai.RateLimitError) as refused:
                await said(is_streamed=is_streamed)
            assert (refused.value.code, refused.value.type) == ("insufficient_quota", "budget_exceeded")
            assert "Your budget of $0.0001 a month has" in refused.value.message
        # Asked once each, though a client that is refused with 429 would try again.
        assert len(requests) == 2
        await root.delete(f"/v1/admin/budgets/{me}/month")
        await said(is_streamed=True)


async def test_budget_is_seen_kept_and_told_of_in_graphql(site: House) -> None:
    ann, bob, root = await site.person("ann"), await site.person("bob"), await site.person("root", Role.ADMIN)
    me = (await ann.get("/v1/users/me")).json()["id"]
    key = (await ann.post("/auth/api-keys", json={"name": "key"})).json()["id"]
    budget = "budget { subjectId userId period limit remaining } errors { message path code }"
    put = f"mutation($id: ID!, $limit: Float!) {{ setBudget(input: {{subjectId: $id, period: DAY, limit: $limit}}) {{ {budget} }} }}"
    shown = {"subjectId": me, "userId": me, "period": "DAY", "limit": 0.00001, "remaining": 0.00001}
    assert await ask(root, put, id=me, limit=0.00001) == {"setBudget": {"budget": shown, "errors": []}}
    wrong = {"message": "user or API key not found", "path": ["input", "subjectId"], "code": "NOT_FOUND"}
    assert await ask(root, put, id="user_none", limit=1) == {"setBudget": {"budget": None, "errors": [wrong]}}
    wrong = {"message": "A budget is of 0 to 1000000000 US dollars", "path": ["input", "limit"], "code": "INVALID"}
    assert await ask(root, put, id=me, limit=-1) == {"setBudget": {"budget": None, "errors": [wrong]}}
    own = f"""mutation($id: ID!) {{
      setApiKeyBudget(input: {{apiKeyId: $id, period: TOTAL, limit: 2}}) {{ {budget} }}
    }}"""
    shown = {"subjectId": key, "userId": me, "period": "TOTAL", "limit": 2.0, "remaining": 2.0}
    assert await ask(ann, own, id=key) == {"setApiKeyBudget": {"budget": shown, "errors": []}}
    [mine, of_key] = sorted((await ask(ann, BUDGETS))["viewer"]["budgets"], key=lambda one: one["limit"])
    assert mine == {
        "subjectId": me,
        "period": "DAY",
        "limit": 0.00001,
        "spent": 0.0,
        "reserved": 0.0,
        "remaining": 0.00001,
        "resetsAt": mine["resetsAt"],
    }
    assert (mine["resetsAt"].endswith("T00:00:00.000Z"), of_key["resetsAt"]) == (True, None)
    assert (await ask(bob, BUDGETS))["viewer"]["budgets"] == []
    in_rest = await listed(ann, "/v1/budgets")
    assert {one["subject_id"]: (one["period"], one["limit"]) for one in in_rest} == {
        me: ("day", 0.00001),
        key: ("total", 2.0),
    }
    everybodys = "{ admin { budgets(first: 1) { edges { node { subjectId } } pageInfo { hasNextPage } } } }"
    page = (await ask(root, everybodys))["admin"]["budgets"]
    assert page == {"edges": [{"node": {"subjectId": key}}], "pageInfo": {"hasNextPage": True}}
    first = (await root.get("/v1/admin/budgets?limit=1")).json()
    rest = (await root.get("/v1/admin/budgets", params={"after": first["next_cursor"]})).json()
    assert [one["subject_id"] for one in first["data"] + rest["data"]] == [key, me]
    assert (first["has_more"], rest["has_more"], rest["next_cursor"]) == (True, False, None)
    generate = (
        'mutation { generate(input: {content: [{text: "hello"}], options: {model: "paid"}}) { generation { id } } }'
    )
    answer = (await ann.post("/graphql", json={"query": generate})).json()
    [error] = answer["errors"]
    assert error["extensions"].pop("requestId")
    assert error["extensions"] == {"code": "BUDGET_EXCEEDED", "resetsAt": mine["resetsAt"]}
    lift = f"mutation($id: ID!) {{ deleteBudget(input: {{subjectId: $id, period: DAY}}) {{ {budget} }} }}"
    assert (await ask(root, lift, id=me))["deleteBudget"]["budget"]["limit"] == 0.00001
    lift = f"mutation($id: ID!) {{ deleteApiKeyBudget(input: {{apiKeyId: $id, period: TOTAL}}) {{ {budget} }} }}"
    assert (await ask(ann, lift, id=key))["deleteApiKeyBudget"]["budget"]["limit"] == 2.0
    assert (await ask(ann, BUDGETS))["viewer"]["budgets"] == []
    assert (await ask(ann, generate))["generate"]["generation"] is not None


async def test_numbers_beyond_graphqls_own_are_told_whole(site: House) -> None:
    ann = await site.person("ann")
    me = (await ann.get("/v1/users/me")).json()["id"]
    row = {"generation_id": "gen_1", "user_id": me, "model": "m", "provider": "p", "status": "completed"}
    site.services.supervisor.log.record(row | {"provenance": "exact", "prompt_tokens": 2_000_000_000})
    site.services.supervisor.log.record(
        row | {"generation_id": "gen_2", "provenance": "exact", "prompt_tokens": 2_000_000_000}
    )
    await billed(site)
    [found] = (await ask(ann, "{ usage(by: []) { rows { promptTokens totalTokens cost } } }"))["usage"]["rows"]
    assert found == {"promptTokens": 4_000_000_000, "totalTokens": 4_000_000_000, "cost": None}


@pytest.mark.parametrize(
    ("query", "param", "message"),
    [
        ("by=day,weather", "by", "by must be some of day, month, model, provider, status, api_key, conversation, user"),
        ("by=user", "by", "All of this is yours; users are told apart in the usage of all, for administrators"),
        ("from=yesterday", "from", "from must be a day or a moment in RFC 3339"),
        ("to=2026-02-30", "to", "to must be a day or a moment in RFC 3339"),
        ("from=2026-01-01T00:00:00", "from", "from must name its offset, as in 2026-01-31T12:00:00Z"),
        ("from=2025-01-01&to=2026-01-03", "from", "from and to may be 366 days apart at most"),
        ("status=gone", "status", "status: it is none of the values that are allowed"),
    ],
)
async def test_what_cannot_be_asked_is_said(site: House, query: str, param: str, message: str) -> None:
    ann = await site.guest()
    answer = await ann.get(f"/v1/usage?{query}")
    assert (answer.status_code, answer.json()["error"]["param"], answer.json()["message"]) == (400, param, message)


async def test_span_of_days_is_read_as_such(site: House) -> None:
    ann = await site.guest()
    found = (await ann.get("/v1/usage?by=day&from=2026-01-01&to=2026-02-01")).json()
    assert found == {
        "object": "list",
        "data": [],
        "from": "2026-01-01T00:00:00.000Z",
        "to": "2026-02-01T00:00:00.000Z",
        "has_more": False,
    }


async def test_budget_of_a_period_that_is_none_is_refused(site: House) -> None:
    root = await site.person("root", Role.ADMIN)
    for method in ("PUT", "DELETE"):
        answer = await root.request(method, "/v1/admin/budgets/user_1/week", json={"limit": 1})
        assert (answer.status_code, answer.json()["message"]) == (400, "The periods are day, month, total")
