"""What GraphQL clients are told of their limits, and what stops them: the same counts as REST has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from tests.graph.conftest import peer
from tests.house import House, house

pytestmark = pytest.mark.anyio

LIMIT = "{ rateLimit { cost limit remaining resetAt } }"
# One page of 100, each with a page of 20: 2,301 points.
COSTLY = """query($size: Int!) {
  rateLimit { cost limit remaining }
  conversations(first: $size) { edges { node { items(first: 20) { edges { cursor } } } } }
}"""
GENERATE = """mutation {
  generate(input: {content: [{text: "Hello"}], options: {}}) { generation { id } errors { code } }
}"""


@pytest.fixture
async def limited(tmp_path: Path, database_address: str) -> AsyncIterator[House]:
    async with house(tmp_path, database_address, guest_rate_limit=30, address_rate_limit=3) as found:
        found.stop_the_clock()
        yield found


async def asked(client: httpx2.AsyncClient, query: str, **variables: object) -> httpx2.Response:
    return await client.post("/graphql", json={"query": query, "variables": variables})


async def data(client: httpx2.AsyncClient, query: str, **variables: object) -> Any:
    answer = (await asked(client, query, **variables)).json()
    assert "errors" not in answer, answer
    return answer["data"]


async def test_rate_limit_tells_what_the_headers_tell(limited: House) -> None:
    async with await limited.guest() as client:
        answer = await asked(client, LIMIT)
    found = answer.json()["data"]["rateLimit"]
    reset = datetime.fromisoformat(found.pop("resetAt")).timestamp()
    assert found == {"cost": 1, "limit": 30, "remaining": 29}
    assert answer.headers["x-ratelimit-limit"] == "30"
    assert answer.headers["x-ratelimit-remaining"] == "29"
    assert answer.headers["x-ratelimit-reset"] == f"{reset:.0f}"


async def test_both_faces_and_sockets_draw_on_one_allowance(limited: House) -> None:
    async with await limited.guest() as client:
        token = client.headers["authorization"]
        assert (await client.get("/v1/models")).headers["x-ratelimit-remaining"] == "29"
        assert (await asked(client, LIMIT)).headers["x-ratelimit-remaining"] == "28"
        async with peer(limited.url.removeprefix("http://")) as socket:
            await socket.init({"authorization": token})
            await socket.subscribe("1", LIMIT)
            event: Any = await socket.hear()
            assert event["payload"]["data"]["rateLimit"]["remaining"] == 27
        assert (await client.get("/v1/models")).headers["x-ratelimit-remaining"] == "26"


async def test_operation_counts_as_what_it_costs(limited: House) -> None:
    async with await limited.guest() as client:
        answer = await asked(client, COSTLY, size=100)
        assert answer.json()["data"]["rateLimit"] == {"cost": 24, "limit": 30, "remaining": 6}
        assert answer.headers["x-ratelimit-remaining"] == "6"
        refused = await asked(client, COSTLY, size=100)
        assert refused.status_code == 429
        assert [error["extensions"]["code"] for error in refused.json()["errors"]] == ["RATE_LIMITED"]
        # What was refused took no more than a request.
        assert (await asked(client, LIMIT)).headers["x-ratelimit-remaining"] == "4"


async def test_document_that_cannot_be_executed_counts_too(limited: House) -> None:
    async with await limited.guest() as client:
        assert (await asked(client, "{ nothing }")).headers["x-ratelimit-remaining"] == "29"
        assert (await client.post("/graphql", content=b"{")).headers["x-ratelimit-remaining"] == "28"
        assert (await asked(client, LIMIT)).headers["x-ratelimit-remaining"] == "27"


@pytest.mark.parametrize("media", ["application/json", "application/graphql-response+json"])
async def test_too_many_requests_are_refused_and_told_when_to_come_back(limited: House, media: str) -> None:
    async with limited.client(accept=media) as client:
        for _ in range(3):
            assert (await asked(client, "{ server { version } }")).status_code == 200
        answer = await asked(client, "{ server { version } }")
    assert answer.status_code == 429
    found = answer.json()["errors"][0]["extensions"]
    assert answer.json() == {
        "errors": [
            {
                "message": "Too many requests: 3 a minute are allowed",
                "extensions": {
                    "code": "RATE_LIMITED",
                    "retryAfter": found["retryAfter"],
                    "requestId": answer.headers["x-request-id"],
                },
            }
        ]
    }
    assert 0 < found["retryAfter"] <= int(answer.headers["retry-after"]) < found["retryAfter"] + 1
    assert answer.headers["x-ratelimit-remaining"] == "0"


async def test_forged_credentials_are_counted_by_address(limited: House) -> None:
    async with limited.client(authorization="Bearer forged") as client:
        statuses = [(await asked(client, LIMIT)).status_code for _ in range(4)]
    assert statuses == [401, 401, 401, 429]


async def test_socket_refuses_the_operation_and_stays_open(limited: House) -> None:
    async with peer(limited.url.removeprefix("http://")) as socket:
        await socket.init()
        for id in "123":
            await socket.subscribe(id, "{ server { version } }")
            assert [(await socket.hear())["type"] for _ in range(2)] == ["next", "complete"]
        await socket.subscribe("4", "{ server { version } }")
        refused: Any = await socket.hear()
        assert (refused["id"], refused["type"]) == ("4", "error")
        [error] = refused["payload"]
        assert error["extensions"]["code"] == "RATE_LIMITED"
        assert error["extensions"]["retryAfter"] > 0
        await socket.say(type="ping")
        assert await socket.hear() == {"type": "pong"}


async def test_events_of_a_stream_are_not_counted(limited: House) -> None:
    limited.demo.enqueue(*"abcdefghijklmnopqrstuvwxyz" * 2)
    async with await limited.guest() as client:
        id = (await data(client, GENERATE))["generate"]["generation"]["id"]
        async with peer(limited.url.removeprefix("http://")) as socket:
            await socket.init({"authorization": client.headers["authorization"]})
            await socket.subscribe("1", f'subscription {{ generation(id: "{id}") {{ seq }} }}')
            events = []
            while (event := await socket.hear())["type"] == "next":
                events.append(event)
        assert len(events) == 54
        assert (await asked(client, LIMIT)).headers["x-ratelimit-remaining"] == "27"


async def test_without_limits_there_is_nothing_to_tell(tmp_path: Path, database_address: str) -> None:
    async with house(tmp_path, database_address) as unlimited, await unlimited.guest() as client:
        answer = await asked(client, LIMIT)
    assert answer.json() == {"data": {"rateLimit": None}}
    assert "x-ratelimit-limit" not in answer.headers


async def test_only_so_many_generations_run_at_once(tmp_path: Path, database_address: str) -> None:
    gate = asyncio.Event()
    async with house(tmp_path, database_address, guest_max_generations=2) as busy, await busy.guest() as client:
        busy.demo.enqueue("a", gate)
        busy.demo.enqueue("a", gate)
        with anyio.fail_after(5):
            answers = [answer.json() for answer in await asyncio.gather(*(asked(client, GENERATE) for _ in range(10)))]
        refused = [answer for answer in answers if "errors" in answer]
        assert len(refused) == 8
        assert all(
            error["message"] == "At most 2 generations may run at once; wait until one has ended"
            and error["extensions"]["code"] == "RATE_LIMITED"
            and error["extensions"]["retryAfter"] == 1
            for answer in refused
            for error in answer["errors"]
        )
        ids = [answer["data"]["generate"]["generation"]["id"] for answer in answers if "errors" not in answer]
        cancelled = "mutation($id: ID!) { cancelGeneration(input: {id: $id}) { generation { status } } }"
        assert (await data(client, cancelled, id=ids[0]))["cancelGeneration"]["generation"]["status"] == "CANCELLED"
        assert (await data(client, GENERATE))["generate"]["errors"] == []
        gate.set()


async def test_many_tries_in_one_document_are_many_tries(tmp_path: Path, database_address: str) -> None:
    async with house(tmp_path, database_address, address_rate_limit=30, login_rate_limit=5) as found:
        found.stop_the_clock()
        # Which takes the first of five tries.
        await found.person("ann")
        tries = [("ann", "a guess")] + [("ann", "the password of ann")] * 5

        async def answered(*tries: tuple[str, str]) -> list[tuple[str, str]]:
            fields = " ".join(
                f'try{number}: login(input: {{email: "{name}@example.com", password: "{password}"}}) {{ errors {{ code }} }}'
                for number, (name, password) in enumerate(tries)
            )
            answer = (await asked(found.client(), f"mutation {{ {fields} }}")).json()
            assert answer["data"] is None
            return [(error["path"][0], error["extensions"]["code"]) for error in answer["errors"]]

        # The first that is wrong ends the document, so that one document guesses once.
        assert await answered(*tries) == [("try0", "UNAUTHENTICATED")]
        assert await answered(*tries[1:]) == [("try3", "RATE_LIMITED")]


async def test_guests_are_not_made_by_the_dozen(limited: House) -> None:
    aliases = " ".join(f"guest{number}: guestLogin {{ accessToken }}" for number in range(5))
    answer = (await asked(limited.client(), f"mutation {{ {aliases} }}")).json()
    codes = [error["extensions"]["code"] for error in answer["errors"]]
    # Null for the first climbs to the top: nobody is given what was made before.
    assert (codes[0], answer["data"]) == ("RATE_LIMITED", None)
