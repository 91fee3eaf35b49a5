"""A chat in the published format, as Anthropic's Messages API asks for it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from engine.events import ErrorCode
from engine.providers.base import ChatMessage, ChatRequest, UpstreamError

DEFAULT_TOKENS = 4096
# What an effort may cost in tokens of thinking; the least that the API takes is 1024.
EFFORTS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 24576}

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,(.*)", re.DOTALL)
_CHOICES = {"auto": "auto", "required": "any", "none": "none"}
# With thinking the model samples in its own way, and the API takes none of these.
_SAMPLING = ("temperature", "top_k", "top_p")

# Names of the published format that are said otherwise there, or not at all; all others go along as they are.
_TRANSLATED = frozenset(
    {
        "audio", "frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "metadata",
        "modalities", "n", "parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key",
        "prompt_cache_retention", "reasoning_effort", "response_format", "safety_identifier", "seed", "stop", "store",
        "stream_options", "tool_choice", "tools", "top_logprobs", "user", "verbosity", "web_search_options",
    }
)  # fmt: skip

Block = dict[str, object]


def body_of(request: ChatRequest) -> bytes:
    """The request as JSON. What the API has no word for (`seed`, the penalties, `logit_bias`) is left out.

    Raises UpstreamError for what would change the answer's shape and cannot be had there.
    """
    options = request.options
    _check(options)
    body: dict[str, object] = {name: value for name, value in options.items() if name not in _TRANSLATED}
    body |= {
        "model": request.model,
        "max_tokens": options.get("max_completion_tokens") or options.get("max_tokens") or DEFAULT_TOKENS,
        "messages": _messages(request.messages),
    }
    if request.is_streamed:
        body["stream"] = True
    if system := "\n\n".join(_text(one) for one in request.messages if one["role"] in ("system", "developer")):
        body["system"] = system
    if isinstance(body.get("temperature"), float | int):
        # The published format goes to 2, this one to 1.
        body["temperature"] = min(float(str(body["temperature"])), 1.0)
    if stop := options.get("stop"):
        body["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    if metadata := _metadata(options):
        body["metadata"] = metadata
    body |= _tools(options)
    _think(body, options)
    try:
        return msgspec.json.encode(body)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _refused("The request cannot be written as JSON") from error


def _metadata(options: Mapping[str, object]) -> Mapping[str, object] | None:
    """Whose request it is; the API takes nothing else there, and the caller's own notes are none of its business."""
    if options.get("user"):
        return {"user_id": options["user"]}
    given = options.get("metadata")
    return given if isinstance(given, Mapping) and given.keys() == {"user_id"} else None


def _check(options: Mapping[str, object]) -> None:
    if options.get("n") not in (None, 1):
        raise _refused("This model gives one answer at a time: n must be 1")
    if options.get("logprobs"):
        raise _refused("This model tells no logprobs")
    form = options.get("response_format")
    if isinstance(form, Mapping) and form.get("type") not in (None, "text"):
        raise _refused("This model takes no response_format; describe the form in the messages, or use a tool")


def _messages(messages: Sequence[ChatMessage]) -> list[Block]:
    """In turns: what follows each other from one side is one message there."""
    turns: list[Block] = []
    for message in messages:
        if message["role"] in ("system", "developer"):
            continue
        role = "assistant" if message["role"] == "assistant" else "user"
        blocks = _blocks(message)
        if not blocks:
            continue
        last = turns[-1]["content"] if turns and turns[-1]["role"] == role else None
        if isinstance(last, list):
            last += blocks
        else:
            turns.append({"role": role, "content": blocks})
    return turns


def _blocks(message: ChatMessage) -> list[Block]:
    if message["role"] == "tool":
        return [{"type": "tool_result", "tool_use_id": message.get("tool_call_id", ""), "content": _text(message)}]
    content = message.get("content")
    if isinstance(content, str):
        blocks = [_text_block(content)] if content else []
    else:
        blocks = [block for part in content or () if (block := _part(part)) is not None]
    return blocks + [_tool_use(call) for call in message.get("tool_calls", ())]


def _part(part: Mapping[str, object]) -> Block | None:
    if part.get("type") == "text":
        return _text_block(str(part.get("text", ""))) if part.get("text") else None
    image = part.get("image_url")
    if part.get("type") != "image_url" or not isinstance(image, Mapping):
        raise _refused("This model reads text and images")
    url = str(image.get("url", ""))
    if (data := _DATA_URL.fullmatch(url)) is not None:
        return {"type": "image", "source": {"type": "base64", "media_type": data[1], "data": data[2]}}
    return {"type": "image", "source": {"type": "url", "url": url}}


def _text_block(text: str) -> Block:
    return {"type": "text", "text": text}


def _text(message: ChatMessage) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in content or () if part.get("type") == "text")


def _tool_use(call: Mapping[str, object]) -> Block:
    function = call.get("function")
    function = function if isinstance(function, Mapping) else {}
    try:
        given = msgspec.json.decode(str(function.get("arguments") or "{}"))
    except msgspec.DecodeError:
        # A model wrote it; what it meant stays readable for the next one.
        given = {"arguments": function.get("arguments")}
    return {"type": "tool_use", "id": call.get("id", ""), "name": function.get("name", ""), "input": given}


def _tools(options: Mapping[str, object]) -> dict[str, object]:
    tools = options.get("tools")
    if not isinstance(tools, Sequence) or not tools:
        return {}
    functions = [tool.get("function") for tool in tools if isinstance(tool, Mapping)]
    found: dict[str, object] = {"tools": [_tool(one) for one in functions if isinstance(one, Mapping)]}
    choice = _tool_choice(options.get("tool_choice"))
    if options.get("parallel_tool_calls") is False and choice.get("type") != "none":
        choice["disable_parallel_tool_use"] = True
    return found | {"tool_choice": choice}


def _tool(function: Mapping[str, object]) -> Block:
    tool = {
        "name": function.get("name", ""),
        "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
    }
    return tool | ({"description": function["description"]} if function.get("description") else {})


def _tool_choice(choice: object) -> Block:
    if isinstance(choice, Mapping) and isinstance(choice.get("function"), Mapping):
        return {"type": "tool", "name": choice["function"].get("name", "")}
    return {"type": _CHOICES.get(str(choice), "auto")}


def _think(body: dict[str, object], options: Mapping[str, object]) -> None:
    """Thinking as it was asked for: in the API's own words, or as an effort."""
    thinking = body.get("thinking")
    effort = EFFORTS.get(str(options.get("reasoning_effort")))
    if thinking is None and effort is not None:
        thinking = {"type": "enabled", "budget_tokens": effort}
        # The budget is part of what the answer may have in all.
        body["max_tokens"] = int(str(body["max_tokens"])) + effort
    if isinstance(thinking, Mapping):
        body["thinking"] = thinking
        if thinking.get("type") == "enabled":
            for name in _SAMPLING:
                body.pop(name, None)


def _refused(message: str) -> UpstreamError:
    return UpstreamError(ErrorCode.INVALID_REQUEST, message)
