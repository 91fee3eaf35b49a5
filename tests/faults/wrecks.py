"""Model servers that go wrong, each in its own way, and what is to come of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.scripted_upstream import (
    DONE,
    EVENTS,
    Asked,
    Move,
    Step,
    _play,
    _read_request,
    _until_left,
    event,
    piece,
    response,
)

STREAMED = ("graphql", "stream")
WHOLE = ("whole",)
ALL = (*STREAMED, *WHOLE)
_FOR_EVER = asyncio.Event
_HELLO = piece("Hello ")
_WHOLE = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello "}, "finish_reason": "stop"}]}
_ODD = (
    b": waking up\r\n\r\n",
    _HELLO[:20],
    _HELLO[20:].replace(b"\n", b"\r\n"),
    b": still here\n\n",
    piece(finish_reason="stop").replace(b"\n", b"\r"),
    event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}),
    DONE,
    DONE,
)


@dataclass(frozen=True)
class Wreck:
    """`answers` are scripts for the first, second … attempt at one question; the last one serves for all that follow.

    What comes of it: `code` and the `status` of REST, or nothing and 200; `text` is what was said before. `attempts` is how
    often it is asked one question, `within` the setting that says how long that may take. `faces` are those to which it can
    go wrong like this: some takes a stream, which GraphQL always asks for.
    """

    name: str
    answers: Sequence[tuple[Step, ...]] = ()
    code: str = ""
    status: int = 200
    text: str = ""
    attempts: int = 1
    within: str = ""
    faces: Sequence[str] = ALL
    address: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """How the generation ends."""
        return "failed" if self.code else "completed"


def wrecks(*, refused: str, unheard: str, plain: str) -> list[Wreck]:
    """Those that are no servers at all stand at these addresses."""
    return [
        Wreck("limits", [(response({}, 429, Retry_After="0"),)], "rate_limited", 429, attempts=3),
        Wreck("limits-for-long", [(response({}, 429, Retry_After="30"),)], "rate_limited", 429, headers={"retry-after": "30"}),
        Wreck("fails", [(response({}, 500),)], "provider_error", 502, attempts=3),
        Wreck("away", [(response({}, 503),)], "unavailable", 502, attempts=3),
        Wreck("gateway", [(response({}, 504),)], "timeout", 504, attempts=3),
        Wreck("html", [(response(b"<html>Welcome</html>", content_type="text/html"),)], "provider_protocol", 502),
        Wreck("resets", [(Move.RESET,)], "unavailable", 502, attempts=3),
        Wreck("closes", [()], "unavailable", 502, attempts=3),
        Wreck("comes-back", [(response({}, 503),), (Move.RESET,), (EVENTS, _HELLO, piece(finish_reason="stop"), DONE)],
              text="Hello ", attempts=3, faces=STREAMED),
        Wreck("comes-back-whole", [(response({}, 503),), (Move.RESET,), (response(_WHOLE),)], text="Hello ", attempts=3, faces=WHOLE),
        Wreck("refused", code="unavailable", status=502, attempts=0, address=refused),
        Wreck("nameless", code="unavailable", status=502, attempts=0, address="http://nothing.invalid"),
        Wreck("plain", code="unavailable", status=502, attempts=0, address=plain),
        Wreck("unheard", code="timeout", status=504, attempts=0, within="UPSTREAM_CONNECT_TIMEOUT", address=unheard),
        Wreck("mute", [(_FOR_EVER(),)], "timeout", 504, within="UPSTREAM_FIRST_BYTE_TIMEOUT"),
        Wreck("bodiless", [(EVENTS, _FOR_EVER())], "timeout", 504, within="UPSTREAM_FIRST_BYTE_TIMEOUT"),
        Wreck("stops", [(EVENTS, _HELLO, _FOR_EVER())], "timeout", 504, "Hello ", within="UPSTREAM_IDLE_TIMEOUT", faces=STREAMED),
        *(
            Wreck(name, [(EVENTS, _HELLO, *rest)], "provider_protocol", 502, "Hello ", faces=STREAMED)
            for name, rest in _BROKEN.items()
        ),
        Wreck("complains", [(EVENTS, _HELLO, event({"error": {"message": "x", "code": 429}}), DONE)],
              "rate_limited", 429, "Hello ", faces=STREAMED),
        Wreck("odd", [(EVENTS, *_ODD)], text="Hello ", faces=STREAMED),
        Wreck("gushes", [(EVENTS, *[piece("x" * GUSH)] * 400)], faces=()),
    ]  # fmt: skip


# More than a generation may hold, in pieces of so many characters.
GUSH = 8_000
_BROKEN: Mapping[str, tuple[Step, ...]] = {
    "half": (),
    "torn": (Move.RESET,),
    "half-a-letter": ('data: {"choices":[{"delta":{"content":"é'.encode()[:-1],),
    "half-an-event": (b'data: {"choices":[{"delta":{"conte',),
    "no-json": (b"data: nonsense\n\n",),
    "long-line": (b"data: " + b"x" * (10 << 20) + b"\n\n",),
}


@dataclass
class Yard:
    """All of them on one port, told apart by the first part of the path. `asked` counts by name and question."""

    wrecks: Mapping[str, Wreck] = field(default_factory=dict)
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    port: int = 0
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    def address(self, name: str) -> str:
        return f"{self.wrecks[name].address or f'http://127.0.0.1:{self.port}'}/{name}/v1"

    def configuration(self) -> dict[str, object]:
        """The YAML file of a server that offers each of them as a model of its own."""
        models = [
            {
                "model_name": name,
                "litellm_params": {"model": f"openai/{name}", "api_base": self.address(name), "api_key": "sk-wreck"},
            }
            for name in self.wrecks
        ]
        return {"model_list": models}

    def total(self, name: str) -> int:
        return sum(count for (asked, _), count in self.asked.items() if asked == name)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of our own: those that asyncio makes complain when they are cancelled.
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def leave(self) -> None:
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await self._serve_one(await _read_request(reader), reader, writer)
        finally:
            writer.close()

    async def _serve_one(self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = asked.path.split("/")[1]
        if asked.method == "GET" or name not in self.wrecks:
            writer.write(response({}, 404))
            await writer.drain()
            return
        question = str(asked.json["messages"])
        self.asked[name, question] += 1
        answers = self.wrecks[name].answers
        script = asyncio.create_task(_play(answers[min(self.asked[name, question], len(answers)) - 1], writer))
        leaving = asyncio.create_task(_until_left(reader))
        try:
            await asyncio.wait((script, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (script, leaving):
                task.cancel()
            await asyncio.gather(script, leaving, return_exceptions=True)


@contextlib.asynccontextmanager
async def yard() -> AsyncIterator[Yard]:
    """All of them, with those that are no servers."""
    found = Yard()
    with _full_backlog() as unheard:
        server = await asyncio.start_server(found.accept, "127.0.0.1", 0)
        plain = await asyncio.start_server(_speak_plainly, "127.0.0.1", 0)
        found.port, port = (one.sockets[0].getsockname()[1] for one in (server, plain))
        known = wrecks(refused=_unused_address(), unheard=unheard, plain=f"https://127.0.0.1:{port}")
        found.wrecks = {one.name: one for one in known}
        try:
            yield found
        finally:
            server.close()
            plain.close()
            await found.leave()


async def _speak_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(response({}, 400))
    writer.close()


@contextlib.contextmanager
def _full_backlog() -> Iterator[str]:
    """An address where the connections that are accepted by nobody already fill the queue."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def _unused_address() -> str:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{holder.getsockname()[1]}"
