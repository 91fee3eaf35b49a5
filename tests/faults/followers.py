"""Those who follow a generation from outside, by every door: each event as they read it, until they are cut off."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field

import httpx2
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.typing import Subprotocol

FOLLOW = """
    subscription Follow($id: ID!, $after: Int) {
      generation(id: $id, after: $after) {
        __typename
        seq
        ... on TextDelta { text }
        ... on GenerationSnapshot { text }
        ... on GenerationFailed { error { code } generation { text status } }
        ... on GenerationCompleted { generation { text status } }
        ... on GenerationIncomplete { generation { text status } }
        ... on GenerationCancelled { generation { text status } }
      }
    }
"""
TERMINAL = frozenset({"completed", "failed", "cancelled", "incomplete"})
# Above the ping period and the keep-alives of every door, so that silence longer than this is a fault.
SILENCE = 40.0


class Cut(Exception):
    """The connection ended before the generation did. `code` and `reason` are those of a WebSocket that was closed politely."""

    def __init__(self, message: str, code: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class Refused(Exception):
    """The server would not let anybody follow."""


@dataclass(frozen=True)
class Heard:
    """One event. `kind` as REST names it: started, text, completed … `text` is what a delta or a snapshot brought, `code` why
    a run failed."""

    seq: int
    kind: str
    text: str = ""
    code: str = ""

    @property
    def is_terminal(self) -> bool:
        return self.kind in TERMINAL


Door = Callable[[str, str, str, int], AsyncGenerator[Heard]]
"""Given the server's address, a token, the generation and a number: the events past it. Raises Cut, Refused."""


async def by_socket(url: str, token: str, id: str, after: int) -> AsyncGenerator[Heard]:
    try:
        async with socket(url, token) as peer:
            await subscribe(peer, "1", FOLLOW, {"id": id, "after": after})
            async for raw in peer:
                message = json.loads(raw)
                if message["type"] == "complete":
                    return
                if message["type"] == "error":
                    raise Refused(raw)
                if message["type"] == "next":
                    yield _event(message["payload"], raw)
    except websockets.ConnectionClosed as error:
        close = error.rcvd
        raise Cut(str(error), close.code if close else 0, close.reason if close else "") from error
    except (OSError, websockets.InvalidHandshake, websockets.InvalidMessage, EOFError) as error:
        raise Cut(repr(error)) from error
    raise Cut("closed without a word", 1000)


@contextlib.asynccontextmanager
async def socket(url: str, token: str) -> AsyncGenerator[ClientConnection]:
    """A WebSocket that has been let in. Raises what websockets raises."""
    connecting = websockets.connect(
        url.replace("http", "ws", 1) + "/graphql",
        subprotocols=[Subprotocol("graphql-transport-ws")],
        open_timeout=SILENCE,
        close_timeout=0.5,
        max_size=None,
    )
    async with connecting as peer:
        payload = {"Authorization": f"Bearer {token}"}
        await peer.send(json.dumps({"type": "connection_init", "payload": payload}))
        await peer.recv()
        yield peer


async def subscribe(peer: ClientConnection, id: str, query: str, variables: Mapping[str, object]) -> None:
    payload = {"query": query, "variables": variables}
    await peer.send(json.dumps({"id": id, "type": "subscribe", "payload": payload}))


async def by_graphql_events(url: str, token: str, id: str, after: int) -> AsyncGenerator[Heard]:
    """GraphQL over server-sent events; goes on as a browser does, by the last id that it was given."""
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
    if after:
        headers["Last-Event-ID"] = str(after)
    body = {"query": FOLLOW, "variables": {"id": id}}
    async for one in _server_sent("POST", f"{url}/graphql", headers, body):
        if one.name == "complete":
            return
        if one.name == "next":
            heard = _event(json.loads(one.data), one.data)
            if one.id != str(heard.seq):
                raise AssertionError(f"the event {heard.seq} was numbered {one.id!r}")
            yield heard
    raise Cut("the stream ended")


async def by_rest_events(url: str, token: str, id: str, after: int) -> AsyncGenerator[Heard]:
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
    if after:
        headers["Last-Event-ID"] = str(after)
    async for one in _server_sent("GET", f"{url}/v1/generations/{id}/events", headers, None):
        if not one.data:
            continue
        payload = json.loads(one.data)
        if "type" not in payload:
            # What is told to whoever has to leave.
            raise Refused(one.data)
        kind = str(payload["type"]).removeprefix("generation.").removesuffix(".delta")
        if one.id != str(payload["seq"]) or one.name != payload["type"]:
            raise AssertionError(f"the event {payload} was sent as {one.name!r} with the id {one.id!r}")
        text = str(payload.get("text", "")) + str(payload.get("delta", "") if kind == "text" else "")
        heard = Heard(int(payload["seq"]), kind, text, str((payload.get("error") or {}).get("code", "")))
        yield heard
        if heard.is_terminal:
            return
    raise Cut("the stream ended")


DOORS: Mapping[str, Door] = {
    "socket": by_socket,
    "graphql-events": by_graphql_events,
    "rest-events": by_rest_events,
}


@dataclass
class _Sent:
    name: str = "message"
    id: str = ""
    data: str = ""


async def _server_sent(method: str, url: str, headers: Mapping[str, str], body: object) -> AsyncGenerator[_Sent]:
    """Whole events only, as a browser reads them."""
    one = _Sent()
    try:
        async with (
            # Nobody here shows a certificate, and to load those of the world takes longer than to be answered.
            httpx2.AsyncClient(timeout=SILENCE, verify=False) as client,
            client.stream(method, url, headers=dict(headers), json=body) as response,
        ):
            if response.status_code != 200:
                raise Refused(f"{response.status_code} {(await response.aread()).decode()}")
            async for line in response.aiter_lines():
                name, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if not line:
                    yield one
                    one = _Sent()
                elif name == "event":
                    one.name = value
                elif name == "id":
                    one.id = value
                elif name == "data":
                    one.data += value
    except (httpx2.TransportError, OSError) as error:
        raise Cut(repr(error)) from error


def _event(payload: Mapping[str, object], raw: str | bytes) -> Heard:
    data = payload.get("data")
    event = data.get("generation") if isinstance(data, dict) else None
    if not isinstance(event, dict):
        raise Refused(raw)
    kind = str(event["__typename"]).removeprefix("Generation").removesuffix("Delta").lower()
    error = event.get("error") or {}
    return Heard(int(event["seq"]), kind, str(event.get("text", "")), str(error.get("code", "")).lower())


@dataclass
class Follower:
    """Somebody who goes on where they were, whenever they are cut off, and keeps a record of what they heard."""

    id: str
    token: str
    heard: list[Heard] = field(default_factory=list)
    resumes: int = 0
    is_busy: bool = False
    codes: list[int] = field(default_factory=list)

    @property
    def last(self) -> int:
        return self.heard[-1].seq if self.heard else 0

    @property
    def is_over(self) -> bool:
        return bool(self.heard) and self.heard[-1].is_terminal

    @property
    def text(self) -> str:
        said = ""
        for one in self.heard:
            said = one.text if one.kind == "snapshot" else said + one.text
        return said

    async def follow(self, door: Door, url: str, most: int | None = None) -> bool:
        """Reads on until the end, a cut, or `most` more events; whether the end was read. Raises Refused."""
        count = 0
        try:
            async with contextlib.aclosing(door(url, self.token, self.id, self.last)) as events:
                async for one in events:
                    self.heard.append(one)
                    count += 1
                    if count == most:
                        break
        except Cut as cut:
            self.codes.append(cut.code)
        if not self.is_over:
            self.resumes += 1
        return self.is_over

    def faults(self, stored: str) -> list[str]:
        """What is wrong with what they heard of a run whose text was kept as `stored`."""
        found = []
        numbers = [one.seq for one in self.heard]
        if numbers != list(range(1, len(numbers) + 1)):
            found.append(f"{self.id}: the numbers were {numbers}")
        if [one.seq for one in self.heard if one.is_terminal] != [numbers[-1] if numbers else 0]:
            found.append(f"{self.id}: its ends were {[one for one in self.heard if one.is_terminal]} of {len(numbers)}")
        if self.text != stored:
            found.append(f"{self.id}: was told {self.text!r}, but {stored!r} is stored")
        return found
