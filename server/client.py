"""What the command line says to a running server: GraphQL over HTTP, and subscriptions over `graphql-transport-ws`."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import typer
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.typing import Subprotocol

PROTOCOL = "graphql-transport-ws"
# How long a server that has gone is asked again, in seconds.
PATIENCE = 60.0
_LONGEST_PAUSE = 5.0
_TIMEOUT = 30.0
_FORBIDDEN = 4403

Data = dict[str, Any]

_GUEST = "mutation { guestLogin { accessToken refreshToken errors { message } } }"
_REFRESH = (
    "mutation Refresh($token: String!) { refreshToken(input: {refreshToken: $token}) { accessToken refreshToken } }"
)


class ClientError(Exception):
    """The server cannot be reached, or did not do what was asked. The message is for people."""


@dataclass(slots=True)
class Guest:
    """The guest that this machine is on a server, kept in a file that only its owner can read."""

    path: Path

    @classmethod
    def of(cls, url: str) -> Guest:
        name = "".join(c if c.isalnum() else "-" for c in url)
        return cls(Path(typer.get_app_dir("loquent")) / "guests" / f"{name}.json")

    def read(self) -> str | None:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return str(found["refresh_token"]) if isinstance(found, dict) and "refresh_token" in found else None

    def write(self, refresh_token: str) -> None:
        # Without it the next start is another guest, which is no reason to fail.
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.touch(mode=0o600)
            self.path.write_text(json.dumps({"refresh_token": refresh_token}), encoding="utf-8")


class Client:
    """One server, and who asks it: the owner of `token`, else the guest that this machine is there."""

    def __init__(self, url: str, token: str | None = None) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ClientError(f"{url} is no address of a server, such as http://localhost:8000")
        self.url = f"{parts.scheme}://{parts.netloc}"
        self._token = token
        self._guest = Guest.of(self.url) if token is None else None
        self._http = httpx2.AsyncClient(base_url=self.url, timeout=_TIMEOUT)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def ask(self, document: str, **variables: object) -> Data:
        """The data of a query or mutation. Raises ClientError, also for errors in a payload."""
        if self._token is None:
            await self._sign_in()
        return await self._ask(document, variables)

    async def follow(self, document: str, generation_id: str) -> AsyncGenerator[Data]:
        """The events of a generation, each once and none left out: a socket that is lost is opened again.

        The document has the variables `id` and `after`. Raises ClientError.
        """
        after, loop = 0, asyncio.get_running_loop()
        since, pause = loop.time(), 0.1
        while True:
            try:
                async with contextlib.aclosing(self.watch(document, id=generation_id, after=after)) as told:
                    async for data in told:
                        event: Data = data["generation"]
                        after, since, pause = event["seq"], loop.time(), 0.1
                        yield event
            except (ConnectionClosed, InvalidHandshake, OSError, TimeoutError) as error:
                if loop.time() - since > PATIENCE:
                    raise ClientError(f"{self.url} cannot be reached any more; the answer goes on there") from error
                if isinstance(error, ConnectionClosed) and error.rcvd is not None and error.rcvd.code == _FORBIDDEN:
                    await self._sign_in()
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                return

    async def watch(self, document: str, **variables: object) -> AsyncGenerator[Data]:
        """What a subscription tells, to its end. Raises ClientError, and what the library raises when the socket is lost."""
        if self._token is None:
            await self._sign_in()
        address = f"ws{self.url.removeprefix('http')}/graphql"
        try:
            async with connect(address, subprotocols=[Subprotocol(PROTOCOL)], open_timeout=_TIMEOUT) as socket:
                await _tell(socket, type="connection_init", payload={"Authorization": f"Bearer {self._token}"})
                await socket.recv()
                payload = {"query": document, "variables": variables}
                await _tell(socket, type="subscribe", id="1", payload=payload)
                async for message in socket:
                    told = json.loads(message)
                    if told["type"] == "complete":
                        return
                    if told["type"] == "error":
                        raise ClientError(_sentence(told["payload"]))
                    if told["type"] == "next":
                        yield _data(told["payload"])
                raise ConnectionResetError("the server closed the socket")
        except InvalidURI as error:
            raise ClientError(f"{address} is no address") from error

    async def _sign_in(self) -> None:
        if self._guest is None:
            raise ClientError("The token does not hold (any longer)")
        found = None
        refresh = self._guest.read()
        if refresh is not None:
            with contextlib.suppress(_RefusedError):
                found = (await self._ask(_REFRESH, {"token": refresh}))["refreshToken"]
        if found is None or found["accessToken"] is None:
            found = (await self._ask(_GUEST, {}))["guestLogin"]
        self._token = str(found["accessToken"])
        self._guest.write(str(found["refreshToken"]))

    async def _ask(self, document: str, variables: Mapping[str, object]) -> Data:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token is not None else {}
        body = {"query": document, "variables": variables}
        try:
            answer = await self._http.post("/graphql", json=body, headers=headers)
        except httpx2.HTTPError as error:
            message = f"{self.url} cannot be reached: is a server running? Start one with `loquent serve`"
            raise ClientError(message) from error
        try:
            found = answer.json()
        except ValueError as error:
            raise ClientError(f"{self.url} does not answer as this server does (HTTP {answer.status_code})") from error
        data = _data(found)
        for payload in data.values():
            errors = payload.get("errors") if isinstance(payload, dict) else None
            if errors:
                raise _RefusedError(_sentence(errors))
        return data


class _RefusedError(ClientError):
    """The server has understood, and does not do it."""


def _data(payload: Data) -> Data:
    """Raises ClientError when there are errors."""
    if payload.get("errors"):
        raise _RefusedError(_sentence(payload["errors"]))
    data: Data = payload["data"]
    return data


def _sentence(errors: object) -> str:
    found = [str(one.get("message")) for one in errors if isinstance(one, dict)] if isinstance(errors, list) else []
    return "; ".join(found) or "The server refused, and did not say why"


async def _tell(socket: ClientConnection, **message: object) -> None:
    await socket.send(json.dumps(message))
