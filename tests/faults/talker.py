"""A model's server that speaks as long, as fast and as late as the question says, and knows when it was left alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import msgspec

from tests.scripted_upstream import DONE, EVENTS, _read_request, _until_left, event, piece, response

MODEL = "talker"


class Question(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is written to the model, as JSON. It answers with so many `words`, one `every` so many seconds after the first,
    which comes `after` as many. It breaks off in place of word number `breaks_at`, if that is not 0. `mark` finds the talk."""

    mark: str
    words: int = 10
    every: float = 0.01
    after: float = 0.0
    breaks_at: int = 0

    def __str__(self) -> str:
        return msgspec.json.encode(self).decode()


def spoken(words: int) -> str:
    """The first so many words of every answer."""
    return "".join(f"w{number} " for number in range(1, words + 1))


@dataclass
class Talk:
    """One answer of the model. `left_at` on the clock of `time.monotonic`, once the other side has closed before its end."""

    question: Question
    said: int = 0
    is_over: bool = False
    left_at: float = 0.0
    has_ended: asyncio.Event = field(default_factory=asyncio.Event)


class Talker:
    """Answers any number of questions at once, streamed or whole."""

    def __init__(self) -> None:
        self.talks: list[Talk] = []
        self.base_url = ""
        self._serving: set[asyncio.Task[None]] = set()
        self._asked = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Talker]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        try:
            yield self
        finally:
            server.close()
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)

    def about(self, mark: str) -> list[Talk]:
        return [talk for talk in self.talks if talk.question.mark == mark]

    async def asked(self, mark: str) -> Talk:
        """The talk with this mark, once the question has come."""
        while not (found := self.about(mark)):
            await self._asked.wait()
        return found[-1]

    @property
    def talking(self) -> int:
        return sum(not talk.has_ended.is_set() for talk in self.talks)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of our own: those that asyncio makes complain when they are cancelled.
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await self._serve_one(reader, writer)
        finally:
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await _read_request(reader)
        if asked.method == "GET":
            writer.write(response({"object": "list", "data": [{"id": MODEL, "object": "model"}]}))
            await writer.drain()
            return
        talk = Talk(msgspec.json.decode(_last_words(asked.json["messages"]), type=Question))
        self.talks.append(talk)
        self._asked.set()
        self._asked = asyncio.Event()
        answer = _stream if asked.json.get("stream") else _whole
        talking = asyncio.create_task(answer(talk, writer))
        leaving = asyncio.create_task(_until_left(reader))
        try:
            await asyncio.wait((talking, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not talk.is_over:
                talk.left_at = time.monotonic()
        finally:
            for task in (talking, leaving):
                task.cancel()
            await asyncio.gather(talking, leaving, return_exceptions=True)
            talk.has_ended.set()


def _last_words(messages: object) -> str:
    assert isinstance(messages, Sequence)
    content = messages[-1]["content"]
    if isinstance(content, list):
        content = "".join(str(part["text"]) for part in content)
    assert isinstance(content, str)
    return content


async def _stream(talk: Talk, writer: asyncio.StreamWriter) -> None:
    question = talk.question
    writer.write(EVENTS)
    await writer.drain()
    await asyncio.sleep(question.after)
    for number in range(1, question.words + 1):
        if number == question.breaks_at:
            # The end of a stream that does not say why it ends.
            talk.is_over = True
            return
        if number > 1:
            await asyncio.sleep(question.every)
        writer.write(piece(f"w{number} "))
        await writer.drain()
        talk.said = number
    writer.write(piece(finish_reason="stop") + event({"choices": [], "usage": _usage(question.words)}) + DONE)
    talk.is_over = True
    await writer.drain()


async def _whole(talk: Talk, writer: asyncio.StreamWriter) -> None:
    question = talk.question
    await asyncio.sleep(question.after + question.every * (question.words - 1))
    message = {"role": "assistant", "content": spoken(question.words)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    talk.said, talk.is_over = question.words, True
    writer.write(response(json.dumps({"choices": [choice], "usage": _usage(question.words)}).encode()))
    await writer.drain()


def _usage(words: int) -> dict[str, int]:
    return {"prompt_tokens": 5, "completion_tokens": words, "total_tokens": 5 + words}
