"""A chat in the published format, as Ollama's own API asks for it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from engine.events import ErrorCode
from engine.providers.base import ChatMessage, ChatRequest, UpstreamError

_DATA_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,(.*)", re.DOTALL)
# What is said among `options` there, under the same name or another.
_SAMPLING: Mapping[str, str] = {
    "frequency_penalty": "frequency_penalty",
    "max_completion_tokens": "num_predict",
    "max_tokens": "num_predict",
    "min_p": "min_p",
    "num_predict": "num_predict",
    "presence_penalty": "presence_penalty",
    "repeat_last_n": "repeat_last_n",
    "repeat_penalty": "repeat_penalty",
    "seed": "seed",
    "stop": "stop",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "typical_p": "typical_p",
}
# Said otherwise there, or not at all; all other fields go along as they are. How long a model stays in memory, and how much of
# it it takes, is not for its callers to say.
_TRANSLATED = frozenset(_SAMPLING) | {
    "keep_alive", "logit_bias", "logprobs", "n", "num_ctx", "options", "parallel_tool_calls", "reasoning_effort", "response_format", "store",
    "stream_options", "tool_choice", "tools", "top_logprobs", "user",
}  # fmt: skip
# The only models that tell efforts apart; the others think or do not.
_LEVELLED = "gpt-oss"
_LEVELS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high"}

Message = dict[str, object]


def body_of(request: ChatRequest, keep_alive: int | str | None) -> bytes:
    """The request as JSON. What the API has no word for (`logit_bias`, `user`) is left out.

    Raises UpstreamError for what would change the answer's shape and cannot be had there.
    """
    options = request.options
    _check(options)
    body: dict[str, object] = {name: value for name, value in options.items() if name not in _TRANSLATED}
    body |= {"model": request.model, "messages": _messages(request.messages), "stream": request.is_streamed}
    if sampling := _sampling(options):
        body["options"] = sampling
    if keep_alive is not None:
        body["keep_alive"] = keep_alive
    if options.get("tools") and options.get("tool_choice") != "none":
        body["tools"] = options["tools"]
    if (form := _form(options.get("response_format"))) is not None:
        body["format"] = form
    if (effort := options.get("reasoning_effort")) is not None:
        body.setdefault("think", _thought(request.model, str(effort)))
    try:
        return msgspec.json.encode(body)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _refused("The request cannot be written as JSON") from error


def _check(options: Mapping[str, object]) -> None:
    if options.get("n") not in (None, 1):
        raise _refused("This model gives one answer at a time: n must be 1")
    if options.get("logprobs"):
        raise _refused("This model tells no logprobs")
    if options.get("tools") and options.get("tool_choice") not in (None, "auto", "none"):
        raise _refused("This model chooses its tools by itself: tool_choice must be auto or none")


def _sampling(options: Mapping[str, object]) -> dict[str, object]:
    own = options.get("options")
    said = {**options, **own} if isinstance(own, Mapping) else options
    return {_SAMPLING[name]: value for name, value in said.items() if name in _SAMPLING and value is not None}


def _form(form: object) -> object:
    """A JSON schema, or the word for any JSON."""
    if not isinstance(form, Mapping) or form.get("type") in (None, "text"):
        return None
    if form["type"] == "json_object":
        return "json"
    described = form.get("json_schema")
    if isinstance(described, Mapping) and isinstance(described.get("schema"), Mapping):
        return described["schema"]
    raise _refused("response_format must be text, json_object, or a json_schema with its schema")


def _thought(model: str, effort: str) -> bool | str:
    if effort == "none":
        return False
    return _LEVELS.get(effort, "medium") if _LEVELLED in model else True


def _messages(messages: Sequence[ChatMessage]) -> list[Message]:
    names: dict[str, str] = {}
    return [_message(message, names) for message in messages]


def _message(message: ChatMessage, names: dict[str, str]) -> Message:
    """`names` are those of the tools that were called, by the ids of the calls."""
    role = "system" if message["role"] == "developer" else message["role"]
    texts, images = _parts(message.get("content"))
    found: Message = {"role": role, "content": "".join(texts)}
    if images:
        found["images"] = images
    if calls := message.get("tool_calls"):
        found["tool_calls"] = [_call(call, names) for call in calls]
    if role == "tool" and (name := names.get(message.get("tool_call_id", ""))):
        found["tool_name"] = name
    return found


def _parts(content: str | Sequence[Mapping[str, object]] | None) -> tuple[list[str], list[str]]:
    """The texts, and the images as plain base64."""
    if content is None or isinstance(content, str):
        return [content or ""], []
    texts, images = [], []
    for part in content:
        image = part.get("image_url")
        if part.get("type") == "text":
            texts.append(str(part.get("text", "")))
        elif part.get("type") == "image_url" and isinstance(image, Mapping):
            images.append(_image(str(image.get("url", ""))))
        else:
            raise _refused("This model reads text and images")
    return texts, images


def _image(url: str) -> str:
    data = _DATA_URL.fullmatch(url)
    if data is None:
        raise _refused("This model reads images only where they are sent along, as a data URL in base64")
    return data[1]


def _call(call: Mapping[str, object], names: dict[str, str]) -> Message:
    function = call.get("function")
    function = function if isinstance(function, Mapping) else {}
    name = str(function.get("name", ""))
    names[str(call.get("id", ""))] = name
    try:
        arguments = msgspec.json.decode(str(function.get("arguments") or "{}"))
    except msgspec.DecodeError:
        # A model wrote it; what it meant stays readable for the next one.
        arguments = {"arguments": function.get("arguments")}
    return {"function": {"name": name, "arguments": arguments}}


def _refused(message: str) -> UpstreamError:
    return UpstreamError(ErrorCode.INVALID_REQUEST, message)
