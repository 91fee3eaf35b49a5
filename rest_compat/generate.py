"""Generation as the second family of documents asks for it: a prompt, alone or as the next turn of a session."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Literal

import msgspec

from db.base import StorageError
from engine.events import Cancelled, Completed, Failed, GenerationEvent, Incomplete, TextDelta
from resolvers import answers, catalog
from resolvers.call import Call
from resolvers.contents import ImagePart, NewItem, TextPart
from resolvers.errors import InvalidInput, PublicError
from resolvers.generations import Completion, Options
from resolvers.parameters import Parameters
from rest_compat import chat, sse
from rest_compat.beginning import Beginning
from rest_compat.endpoint import Answer, Ask, Reply, Stream
from rest_compat.errors import ErrorEvent, problem

_SILENCE = b": heartbeat\n\n"
# How the usual formats begin in base64.
_IMAGES = {"iVBORw0KGgo": "png", "/9j/": "jpeg", "R0lGOD": "gif", "UklGR": "webp"}
_ADDRESSES = ("http://", "https://", "data:", "jan_")
_ANY_MODEL = "auto"
# They say that `model` decides.
_USUAL_MODES = ("auto", "model")

Modality = Literal["text", "image", "3d"]


class GenerateInput(msgspec.Struct, frozen=True):
    """`images` for the model to look at: addresses, or bytes in base64."""

    prompt: str | None = None
    images: list[str] | None = None
    mesh: str | None = None


class GenerateParameters(Parameters, frozen=True, kw_only=True):
    """Those of the chat API, and `format`."""

    format: Literal["text", "json", "markdown"] | None = None


class GenerateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`tools`: names of tools of this server that the model may call. Without a `model`, or with `auto`, the caller's preferred one or the server's own. `provider`, `selection_mode` and
    `state_tokens` mean nothing here, and are warned about."""

    modality: Modality
    input: GenerateInput
    model: str | None = None
    parameters: GenerateParameters | None = None
    session_id: str | None = None
    stream: bool | None = None
    tools: list[str] | None = None
    provider: object = None
    selection_mode: object = None
    state_tokens: object = None


class Selection(msgspec.Struct, frozen=True):
    """`fallback_used`: another model answered than the one that was asked for, which had failed before its first word."""

    selected_model: str
    selected_provider: str
    fallback_used: bool = False
    fallback_reason: str | None = None


class CreditsStatus(msgspec.Struct, frozen=True):
    provider: str
    status: Literal["unknown"] = "unknown"
    remaining: float | None = None
    reset_at: str | None = None


class GenerateOutput(msgspec.Struct, frozen=True):
    text: str
    images: list[str] | None = None
    mesh: str | None = None
    artifacts: list[str] | None = None


class GenerateUsage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class GenerateObject(msgspec.Struct, frozen=True, kw_only=True):
    """`request_id` is the id of the generation."""

    request_id: str
    model: str
    modality: Modality = "text"
    session_id: str | None
    state_tokens: None = None
    selection: Selection
    credits_status: CreditsStatus
    output: GenerateOutput
    usage: GenerateUsage
    warnings: list[str]


class ModelSelected(msgspec.Struct, frozen=True, kw_only=True):
    """The first event of a stream. Chunks of the chat format follow; after a good end the whole as a GenerateObject, by which
    these clients know the end and the bill; then `[DONE]`. After a bad end there is `error` instead."""

    event: Literal["model_selected"] = "model_selected"
    model: str
    model_name: str
    modality: Modality = "text"
    provider: str
    fallback_used: bool = False
    fallback_reason: str | None = None
    request_id: str
    session_id: str | None


async def generate(ask: Ask, asked: GenerateRequest) -> Answer:
    options = Options(
        model=asked.model if asked.model != _ANY_MODEL else None,
        parameters=_parameters(asked.parameters, asked.tools),
    )
    begin = partial(
        answers.answer, ask.call, _item(asked), options, session_id=asked.session_id, is_streamed=bool(asked.stream)
    )
    if asked.stream:
        beginning = Beginning(begin)
        pieces = _pieces(ask.call, asked, beginning)
        first = await anext(pieces)
        return Stream(first, pieces, chat.headers(beginning.completion), _SILENCE)
    found = await begin()
    said = await found.whole()
    end = said[-1]
    if isinstance(end, (Failed, Cancelled)):
        raise chat.failure(end, found.retry_after)
    return Reply(msgspec.json.encode(_whole(asked, found, said)), headers=chat.headers(found))


async def _pieces(call: Call, asked: GenerateRequest, beginning: Beginning) -> AsyncGenerator[bytes]:
    """The first piece comes with the first word, or when PATIENCE is at an end. What fails before that is raised."""
    async with contextlib.aclosing(beginning):
        found = await beginning.begun()
        model = catalog.model(call, found.model)
        yield sse.event(
            ModelSelected(
                model=found.model,
                model_name=model.display_name if model is not None else found.model,
                provider=found.provider,
                fallback_used=found.fallback_reason is not None,
                fallback_reason=found.fallback_reason,
                request_id=found.id,
                session_id=asked.session_id,
            )
        )
        try:
            async with contextlib.aclosing(beginning.pieces()) as pieces:
                async for piece in pieces:
                    is_last = piece.endswith(sse.DONE)
                    yield _closed(piece, asked, found, beginning.said) if is_last else piece
        except (PublicError, StorageError) as error:
            yield sse.event(ErrorEvent(problem(error).error())) + sse.DONE


def _closed(piece: bytes, asked: GenerateRequest, found: Completion, said: Sequence[GenerationEvent]) -> bytes:
    """The last piece, with the whole before its end if that is a good one."""
    if isinstance(said[-1], (Failed, Cancelled)):
        return piece
    return piece.removesuffix(sse.DONE) + sse.event(_whole(asked, found, said)) + sse.DONE


def _whole(asked: GenerateRequest, found: Completion, said: Sequence[GenerationEvent]) -> GenerateObject:
    end = said[-1]
    assert isinstance(end, (Completed, Incomplete)), "nothing else is whole"
    spent = end.usage
    return GenerateObject(
        request_id=found.id,
        model=found.model,
        session_id=asked.session_id,
        selection=Selection(found.model, found.provider, found.fallback_reason is not None, found.fallback_reason),
        credits_status=CreditsStatus(found.provider),
        output=GenerateOutput("".join(one.text for one in said if isinstance(one, TextDelta) and not one.choice)),
        usage=GenerateUsage(spent.prompt_tokens, spent.completion_tokens, spent.total_tokens),
        warnings=_warnings(asked, end),
    )


def _warnings(asked: GenerateRequest, end: Completed | Incomplete) -> list[str]:
    ignored = {
        "provider": asked.provider,
        "selection_mode": asked.selection_mode if asked.selection_mode not in _USUAL_MODES else None,
        "state_tokens": asked.state_tokens,
    }
    found = [f"{name} was ignored" for name, value in ignored.items() if value]
    if isinstance(end, Incomplete):
        found.append("The answer was cut off by a bound of this server")
    return found


def _item(asked: GenerateRequest) -> NewItem:
    """Raises InvalidInput for what is not text that a model answers."""
    if asked.modality != "text":
        raise InvalidInput(
            "This server makes text; there is no model for anything else", field="modality", code="unsupported_modality"
        )
    if not asked.input.prompt:
        raise InvalidInput("input.prompt must not be empty", field="input.prompt")
    if asked.input.mesh is not None:
        raise InvalidInput("No model here reads a mesh", field="input.mesh", code="unsupported_modality")
    images = [_image(image, f"input.images[{index}]") for index, image in enumerate(asked.input.images or ())]
    return NewItem("user", [TextPart(asked.input.prompt), *images], is_plain=not images)


def _image(written: str, field: str) -> ImagePart:
    if written.startswith(_ADDRESSES):
        return ImagePart(written)
    for beginning, kind in _IMAGES.items():
        if written.startswith(beginning):
            return ImagePart(f"data:image/{kind};base64,{written}")
    raise InvalidInput(f"{field} must be an address, or a PNG, JPEG, GIF or WebP in base64", field=field)


def _parameters(given: GenerateParameters | None, tools: list[str] | None) -> dict[str, object]:
    """Those that were given, in the words of the chat API. Raises InvalidInput."""
    given = given or GenerateParameters()
    if tools:
        given = msgspec.structs.replace(given, tools=[*(given.tools or ()), *tools])
    if given.n not in (None, 1):
        raise InvalidInput("parameters.n: one answer is made at a time", field="parameters.n")
    values = {name: getattr(given, name) for name in Parameters.__struct_fields__}
    found = {name: value for name, value in values.items() if value is not None}
    if given.format == "json":
        found.setdefault("response_format", {"type": "json_object"})
    return found
