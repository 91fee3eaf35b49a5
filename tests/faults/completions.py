"""Somebody who asks for a stateless completion on a socket of their own, and leaves whenever they like."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.faults.talker import MODEL, Question


@dataclass
class Asking:
    """A request that has been sent."""

    reader: asyncio.StreamReader

    async def head(self) -> tuple[int, dict[str, str]]:
        """The status and the headers, their names in lower case. Raises IncompleteReadError when there are none."""
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:] if line)}
        return int(lines[0].split(" ")[1]), headers

    async def heard(self, word: bytes) -> bytes:
        """All up to this, once it has come. Raises IncompleteReadError when it does not."""
        return await self.reader.readuntil(word)

    async def rest(self) -> bytes:
        """What else comes, until the server closes or breaks off."""
        said = b""
        with contextlib.suppress(ConnectionError):
            while piece := await self.reader.read(65536):
                said += piece
        return said


@contextlib.asynccontextmanager
async def asking(
    url: str, token: str, question: Question, *, is_streamed: bool, headers: Mapping[str, str] = {}
) -> AsyncGenerator[Asking]:
    """They leave without a word at the end of the block. Raises OSError when nobody is there."""
    address = urlsplit(url)
    body = json.dumps(
        {"model": MODEL, "messages": [{"role": "user", "content": str(question)}], "stream": is_streamed}
    ).encode()
    named = {"Host": "x", "Authorization": f"Bearer {token}", "Connection": "close", **headers}
    named["Content-Length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write(f"POST /v1/chat/completions HTTP/1.1\r\n{head}\r\n".encode() + body)
        yield Asking(reader)
    finally:
        writer.transport.abort()
