"""What REST clients are told of their limits, and what stops them."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator
from itertools import islice
from pathlib import Path

import anyio
import httpx2
import pytest

from tests.house import House, house

pytestmark = pytest.mark.anyio

HELLO = {"messages": [{"role": "user", "content": "Hello"}]}
HEADERS = ("limit", "remaining", "reset", "limit-minute", "remaining-minute")


def told(answer: httpx2.Response) -> list[str | None]:
    """The rate limit headers: limit, remaining and reset, then the other names of the first two."""
    return [answer.headers.get(f"x-ratelimit-{name}") for name in HEADERS]


@pytest.fixture
async def limited(tmp_path: Path, database_address: str) -> AsyncIterator[House]:
    async with house(tmp_path, database_address, rate_limit=6, guest_rate_limit=5, address_rate_limit=4) as found:
        found.stop_the_clock()
        yield found


async def test_every_answer_tells_how_many_requests_are_left(limited: House) -> None:
    async with await limited.guest() as client:
        answers = [
            await client.get("/v1/models"),
            await client.post("/llm/v1/conversations", json={}),
            await client.get("/v1/conversations/conv_0"),
            await client.post("/v1/chat/completions", json={**HELLO, "stream": True}),
            await client.post("/v1/chat/completions", content=b"{"),
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 404, 200, 400]
    reset = str(math.ceil(limited.services.limiter._clock() // 60 * 60 + 60))
    assert [told(answer) for answer in answers] == [["5", left, reset, "5", left] for left in "43210"]


async def test_too_many_requests_are_refused_and_told_when_to_come_back(limited: House) -> None:
    async with await limited.guest() as client:
        for _ in range(5):
            assert (await client.get("/v1/models")).status_code == 200
        answer = await client.get("/v1/models")
    message = "Too many requests: 5 a minute are allowed"
    assert answer.status_code == 429
    assert answer.json() == {
        "error": {"message": message, "type": "rate_limit_error", "code": "rate_limited", "param": None},
        "message": message,
        "code": "rate_limited",
        "request_id": answer.headers["x-request-id"],
        "detail": {"code": "rate_limited", "message": message},
    }
    assert 1 <= int(answer.headers["retry-after"]) <= 61
    assert told(answer)[:2] == ["5", "0"]


async def test_refused_request_does_nothing(limited: House) -> None:
    async with await limited.guest() as client:
        for _ in range(5):
            await client.post("/v1/conversations", json={})
        refused = await client.post("/v1/conversations", json={})
        assert refused.status_code == 429
        limited.services.limiter._memory._windows.clear()
        assert (await client.get("/v1/conversations")).json()["total"] == 5


async def test_strangers_are_counted_by_address_whatever_credential_they_try(limited: House) -> None:
    async with limited.client() as client:
        answers = [
            await client.get("/v1/models"),
            await client.get("/v1/conversations"),
            await client.get("/v1/conversations", headers={"Authorization": "Bearer forged"}),
            await client.get("/v1/models", headers={"X-API-Key": "sk_forged"}),
            await client.get("/v1/conversations", headers={"Authorization": "Bearer another"}),
        ]
        assert [answer.status_code for answer in answers] == [200, 401, 401, 200, 429]
        assert [told(answer)[1] for answer in answers] == ["3", "2", "1", "0", "0"]
        assert (await client.post("/auth/guest-login")).status_code == 429


async def test_health_always_answers(limited: House) -> None:
    async with limited.client() as client:
        for _ in range(8):
            for path in ("/healthz", "/health", "/ready"):
                answer = await client.get(path)
                assert (answer.status_code, told(answer)) == (200, [None] * 5)


async def test_guests_do_not_use_up_what_others_have(limited: House) -> None:
    async with await limited.guest() as ann, await limited.guest() as bob:
        statuses = [(await ann.get("/v1/models")).status_code for _ in range(6)]
        assert statuses == [200] * 5 + [429]
        assert told(await bob.get("/v1/models"))[1] == "4"


async def test_parallel_requests_are_counted_each(limited: House) -> None:
    async with await limited.guest() as client:
        with anyio.fail_after(5):
            answers = await asyncio.gather(*(client.get("/v1/conversations") for _ in range(20)))
    assert Counter(answer.status_code for answer in answers) == {200: 5, 429: 15}


async def test_without_limits_no_header_speaks_of_them(tmp_path: Path, database_address: str) -> None:
    async with house(tmp_path, database_address) as unlimited, await unlimited.guest() as client:
        assert told(await client.get("/v1/models")) == [None] * 5


async def test_pages_of_other_sites_may_read_the_headers(tmp_path: Path, database_address: str) -> None:
    async with (
        house(tmp_path, database_address, cors_origins=("https://app.example",)) as open_house,
        open_house.client(origin="https://app.example") as client,
    ):
        answer = await client.get("/v1/models")
    exposed = {name.strip() for name in answer.headers["access-control-expose-headers"].split(",")}
    assert {"Retry-After", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"} <= exposed


@pytest.fixture
async def busy(tmp_path: Path, database_address: str) -> AsyncIterator[House]:
    """Two runs at once are what a guest may have."""
    async with house(tmp_path, database_address, guest_max_generations=2) as found:
        yield found


async def test_only_so_many_generations_run_at_once(busy: House) -> None:
    gate = asyncio.Event()
    for _ in range(2):
        busy.demo.enqueue("a", gate)
    async with await busy.guest() as client, await busy.guest() as other:
        with anyio.fail_after(5):
            answers = [
                asyncio.create_task(client.post("/v1/chat/completions", json={**HELLO, "stream": bool(number % 2)}))
                for number in range(20)
            ]
            for answer in islice(asyncio.as_completed(answers), 18):
                assert (await answer).status_code == 429
            assert (await other.post("/v1/chat/completions", json=HELLO)).status_code == 200
            gate.set()
            statuses = Counter(answer.status_code for answer in await asyncio.gather(*answers))
            assert statuses == {200: 2, 429: 18}
            assert (await client.post("/v1/chat/completions", json=HELLO)).status_code == 200
    refused = next(answer.result() for answer in answers if answer.result().status_code == 429)
    assert refused.json()["message"] == "At most 2 generations may run at once; wait until one has ended"
    assert refused.headers["retry-after"] == "1"


async def test_client_that_leaves_gives_its_place_back(busy: House) -> None:
    async with await busy.guest() as client:
        for _ in range(2):
            busy.demo.enqueue("a", asyncio.Event())
            async with client.stream("POST", "/v1/chat/completions", json={**HELLO, "stream": True}) as answer:
                assert (await anext(answer.aiter_lines())).startswith("data: ")
        with anyio.fail_after(5):
            await busy.demo.wait_closed(2)
            answer = await client.post("/v1/chat/completions", json=HELLO)
    assert answer.status_code == 200


async def test_message_whose_reply_has_no_place_is_not_stored(busy: House) -> None:
    gate = asyncio.Event()
    async with await busy.guest() as client:
        id = (await client.post("/v1/conversations", json={})).json()["id"]
        for _ in range(2):
            busy.demo.enqueue("a", gate)
            sent = await client.post(f"/v1/conversations/{id}/items", json={"role": "user", "content": "Hello"})
            assert sent.status_code == 201
        refused = await client.post(f"/v1/conversations/{id}/items", json={"role": "user", "content": "And this"})
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        kept = await client.post(
            f"/v1/conversations/{id}/items", json={"role": "user", "content": "Only this", "generate": False}
        )
        assert kept.status_code == 201
        said = [item["content"] for item in (await client.get(f"/v1/conversations/{id}/items")).json()["data"]]
        assert [text for text in said if text in ("Hello", "And this", "Only this")] == ["Hello", "Hello", "Only this"]
        gate.set()


async def test_passwords_of_one_account_are_not_guessed_for_long(tmp_path: Path, database_address: str) -> None:
    async with house(tmp_path, database_address, address_rate_limit=30, login_rate_limit=4) as found:
        found.stop_the_clock()
        client = found.client()
        account = {"email": "ann@example.com", "password": "the password of ann"}
        assert (await client.post("/v1/users/register", json=account)).status_code == 201
        guesses = [
            await client.post("/v1/users/login", json={**account, "email": email, "password": "a guess"})
            for email in ("ann@example.com", "ANN@example.com ", "ann@example.com", "ann@example.com")
        ]
        assert [guess.status_code for guess in guesses] == [401] * 4
        # Not even the right one, from wherever it comes: otherwise it could still be found.
        refused = await client.post("/v1/users/login", json=account)
        assert (refused.status_code, refused.json()["message"]) == (429, "Too many attempts to sign in")
        assert 1 <= int(refused.headers["retry-after"]) <= 61
        other = await client.post("/v1/users/login", json={**account, "email": "bob@example.com"})
        assert other.status_code == 401
