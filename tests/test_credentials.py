"""One credential, one verdict: whichever header carries it, and whichever door it comes to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import anyio
import httpx2
import pytest
import websockets
from sqlalchemy import update

from db.base import now
from db.models import ApiKey
from resolvers import api_keys, sign_ins
from resolvers.call import Call
from tests.graph.conftest import Peer, peer
from tests.house import House, house
from tests.resolvers.people import person, token

pytestmark = pytest.mark.anyio

YES, NO, NOBODY = "yes", "forbidden", "unauthenticated"
READ = "{ conversations { edges { cursor } } }"
WRITE = "mutation { createConversation(input: {}) { conversation { id } } }"
# What each of them may do: read, and write.
VERDICTS: Mapping[str, tuple[str, str]] = {
    "access token": (YES, YES),
    "key that reads and writes": (YES, YES),
    "key that reads": (YES, NO),
    "key that writes": (NO, YES),
    "revoked key": (NOBODY, NOBODY),
    "expired key": (NOBODY, NOBODY),
    "mistyped key": (NOBODY, NOBODY),
    "unknown key": (NOBODY, NOBODY),
    "no key at all": (NOBODY, NOBODY),
    "nonsense": (NOBODY, NOBODY),
}
HEADERS: Mapping[str, str] = {"Authorization": "Bearer {}", "X-API-Key": "{}", "apikey": "{}"}


@pytest.fixture
async def place(database_address: str, tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, database_address) as place:
        yield place


async def credentials_of(call: Call) -> Mapping[str, str]:
    async def key(*scopes: str) -> tuple[str, str]:
        made = await api_keys.create(call, "program", scopes or None, None)
        return made.row.id, made.secret.reveal()

    revoked, expired = await key(), await key()
    await api_keys.revoke(call, revoked[0])
    async with call.write() as session:
        moment = now() - timedelta(seconds=1)
        await session.execute(update(ApiKey).where(ApiKey.id == expired[0]).values(expires_at=moment))
    whole = (await key())[1]
    return {
        "access token": token(call),
        "key that reads and writes": whole,
        "key that reads": (await key("read"))[1],
        "key that writes": (await key("write"))[1],
        "revoked key": revoked[1],
        "expired key": expired[1],
        "mistyped key": whole[:-1] + ("a" if whole[-1] != "a" else "b"),
        "unknown key": api_keys._new_key("live")[1],
        "no key at all": "sk_",
        "nonsense": "nonsense",
    }


async def by_rest(place: House, headers: Mapping[str, str]) -> tuple[str, str]:
    async with httpx2.AsyncClient(base_url=place.url, headers=headers) as client:
        answers = [await client.request(method, "/v1/conversations") for method in ("GET", "POST")]
    for answer in answers:
        assert (answer.status_code == 401) == ("www-authenticate" in answer.headers)
    said = {200: YES, 401: NOBODY, 403: NO}
    return said[answers[0].status_code], said[answers[1].status_code]


async def by_http(place: House, headers: Mapping[str, str]) -> tuple[str, str]:
    async with httpx2.AsyncClient(base_url=place.url, headers=headers) as client:
        answers = [(await client.post("/graphql", json={"query": query})).json() for query in (READ, WRITE)]
    return verdict(answers[0]), verdict(answers[1])


async def by_socket(place: House, payload: Mapping[str, str]) -> tuple[str, str]:
    async with peer(place.url.removeprefix("http://")) as socket:
        await socket.say(type="connection_init", payload=payload)
        if await refused(socket):
            return NOBODY, NOBODY
        return await asked(socket, READ), await asked(socket, WRITE)


async def refused(socket: Peer) -> bool:
    """Whether the socket is closed instead of being acknowledged."""
    try:
        with anyio.fail_after(5):
            assert '"connection_ack"' in str(await socket.connection.recv())
    except websockets.ConnectionClosed:
        assert socket.connection.close_code == 4403
        return True
    return False


async def asked(socket: Peer, query: str) -> str:
    await socket.subscribe("1", query)
    answer = await socket.hear()
    if answer["type"] == "error":
        return verdict({"errors": answer["payload"]})
    assert (await socket.hear())["type"] == "complete"
    found = answer["payload"]
    assert isinstance(found, dict)
    return verdict(found)


def verdict(answer: dict[str, object]) -> str:
    errors = answer.get("errors")
    if not errors:
        return YES
    assert isinstance(errors, list)
    (code,) = {error["extensions"]["code"] for error in errors}
    return {"UNAUTHENTICATED": NOBODY, "FORBIDDEN": NO}[code]


async def test_every_door_says_the_same_of_every_credential_in_every_header(place: House) -> None:
    credentials = await credentials_of(await person(place.services))
    assert credentials.keys() == VERDICTS.keys()
    found: dict[tuple[str, str, str], tuple[str, str]] = {}
    for name, credential in credentials.items():
        for header, form in HEADERS.items():
            carried = {header: form.format(credential)}
            found[name, header, "REST"] = await by_rest(place, carried)
            found[name, header, "GraphQL"] = await by_http(place, carried)
            found[name, header, "socket"] = await by_socket(place, carried)
    wrong = {case: verdicts for case, verdicts in found.items() if verdicts != VERDICTS[case[0]]}
    assert (wrong, len(found)) == ({}, len(VERDICTS) * len(HEADERS) * 3)


async def test_without_a_credential_every_door_asks_to_sign_in(place: House) -> None:
    assert [await by_rest(place, {}), await by_http(place, {}), await by_socket(place, {})] == [(NOBODY, NOBODY)] * 3


FOLLOW = "subscription($id: ID!) { generation(id: $id) { __typename } }"
GENERATE = 'mutation { generate(input: {content: [{text: "hello"}]}) { generation { id } } }'


class Program:
    """A program with a key of its own, which follows a generation over a socket and streams a completion over REST."""

    def __init__(self, place: House, key: str) -> None:
        self.place = place
        self.key = key
        self.following = asyncio.Event()
        self.closed = asyncio.Event()
        self.streaming = asyncio.Event()
        self.ended = asyncio.Event()
        self.code: int | None = None

    async def follow(self) -> None:
        self.place.demo.enqueue("so far", asyncio.Event())
        async with self.place.client(x_api_key=self.key) as client:
            made = (await client.post("/graphql", json={"query": GENERATE})).json()
        id = made["data"]["generate"]["generation"]["id"]
        async with peer(self.place.url.removeprefix("http://")) as socket:
            await socket.init({"X-API-Key": self.key})
            await socket.subscribe("1", FOLLOW, variables={"id": id})
            await socket.hear()
            self.following.set()
            self.code, _ = await socket.closing()
        self.closed.set()

    async def stream(self) -> None:
        self.place.demo.enqueue("so far", asyncio.Event())
        body = {"model": "demo", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
        async with (
            self.place.client(x_api_key=self.key) as client,
            client.stream("POST", "/v1/chat/completions", json=body) as answer,
        ):
            assert answer.status_code == 200
            try:
                async for _ in answer.aiter_bytes():
                    self.streaming.set()
            except httpx2.HTTPError:
                # Cut off in the middle, which is an end as well.
                pass
        self.ended.set()


@pytest.mark.parametrize("is_elsewhere", [False, True], ids=["here", "by another process"])
async def test_revoked_key_ends_what_it_has_open(
    database_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_elsewhere: bool
) -> None:
    if not is_elsewhere:
        # Where it was revoked nothing is swept for, it is told.
        monkeypatch.setattr(sign_ins, "PERIOD", 3600.0)
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(house(tmp_path, database_address))
        there = await stack.enter_async_context(house(tmp_path, database_address)) if is_elsewhere else here
        call = await person(here.services)
        key = await api_keys.create(call, "program", None, None)
        program = Program(here, key.secret.reveal())
        with anyio.fail_after(15):
            async with anyio.create_task_group() as group:
                group.start_soon(program.stream)
                await program.streaming.wait()
                group.start_soon(program.follow)
                await program.following.wait()
                began = time.monotonic()
                await api_keys.revoke(Call(there.services, call.caller), key.row.id)
                await program.closed.wait()
                await program.ended.wait()
                took = time.monotonic() - began
    assert program.code == 4403
    assert took < 5
