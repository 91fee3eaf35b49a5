"""Completions of texts, as the older wire has them: by an upstream that speaks it, else in a chat."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from engine import events
from engine.events import Completed, FinishReason, GenerationEvent, Incomplete, TextDelta
from resolvers import texts
from resolvers.completions import Completion
from rest_compat import body, chat, sse
from rest_compat.chat import StreamOptions
from rest_compat.completions import Head, Usage, usage
from rest_compat.endpoint import Answer, Ask

_PREFIX = "cmpl-"
_OWN_FIELDS = frozenset({"model", "prompt", "stream", "stream_options"})


class TextCompletionRequest(msgspec.Struct, frozen=True):
    """The fields that are read here; all others go to the model as they are."""

    prompt: object = None
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


class TextChoice(msgspec.Struct):
    text: str
    index: int
    logprobs: None = None
    finish_reason: str | None = None


class TextCompletion(msgspec.Struct, kw_only=True):
    """Of a stream each event is one; `usage` as in a chat."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage | UnsetType | None = UNSET


async def complete(ask: Ask, written: dict[str, object]) -> Answer:
    """Goes on with a text, streamed or not. Where the model's server has no such route, the text is what a user says in a chat."""
    asked = body.typed(written, TextCompletionRequest)
    found = await texts.complete(
        ask.call,
        asked.model,
        asked.prompt,
        {name: value for name, value in written.items() if name not in _OWN_FIELDS},
        is_streamed=bool(asked.stream),
        is_tapped=True,
    )
    if asked.stream:
        includes_usage = asked.stream_options is not None and bool(asked.stream_options.include_usage)
        return await chat.streamed(found, lambda: TextWriter(chat.head(found, _PREFIX), includes_usage=includes_usage))
    return await chat.whole(found, _completion)


def _completion(found: Completion, said: list[GenerationEvent], end: Completed | Incomplete) -> bytes:
    gathered: dict[int, list[str]] = {0: []}
    for event in said:
        if isinstance(event, TextDelta):
            gathered.setdefault(event.choice, []).append(event.text)
    reasons, head = chat.reasons(found, end), chat.head(found, _PREFIX)
    choices = [
        TextChoice("".join(parts), index, None, reasons.get(index, end.finish_reason))
        for index, parts in sorted(gathered.items())
    ]
    answer = TextCompletion(id=head.id, created=head.created, model=head.model, choices=choices, usage=usage(end.usage))
    return msgspec.json.encode(answer)


class TextWriter:
    """Writes the events of one stream."""

    def __init__(self, head: Head, *, includes_usage: bool) -> None:
        self._head = head
        self._includes_usage = includes_usage
        self._begun: set[int] = set()

    def continue_after(self, raw: bytes) -> None:
        first = raw[: raw.find(b"\n")].removeprefix(b"data:")
        with contextlib.suppress(msgspec.DecodeError):
            self._head = msgspec.json.decode(first, type=Head)

    def deltas(self, said: Iterable[GenerationEvent]) -> bytes:
        """What a model thinks, or asks of tools, has no place on this wire."""
        return b"".join([self._text(event) for event in said if isinstance(event, TextDelta)])

    def finishes(self, finish_reasons: Mapping[int, FinishReason], *, default: FinishReason) -> bytes:
        return b"".join(
            self._event([TextChoice("", index, None, finish_reasons.get(index, default))])
            for index in sorted(self._begun | {0})
        )

    def usage(self, spent: events.Usage) -> bytes:
        return self._event([], usage(spent)) if self._includes_usage else b""

    def _text(self, event: TextDelta) -> bytes:
        self._begun.add(event.choice)
        return self._event([TextChoice(event.text, event.choice)])

    def _event(self, choices: list[TextChoice], spent: Usage | None = None) -> bytes:
        head = self._head
        shown = spent if self._includes_usage else UNSET
        return sse.event(
            TextCompletion(id=head.id, created=head.created, model=head.model, choices=choices, usage=shown)
        )
