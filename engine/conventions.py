"""What a generation and a tool call say of themselves in traces, in the words of OpenTelemetry's conventions for generative AI."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from types import MappingProxyType

import msgspec

from engine.meter import Meter
from engine.providers.base import ChatMessage
from engine.run import Run, Spec
from engine.tools.base import Tool, ToolError, ToolResult
from engine.trace import Side, Trace, Value

# The conventions' own names, where they differ from ours.
_PROVIDERS = MappingProxyType({"mistral": "mistral_ai", "gemini": "gcp.gemini"})
_NUMBERS = MappingProxyType(
    {
        "temperature": "gen_ai.request.temperature",
        "top_p": "gen_ai.request.top_p",
        "max_tokens": "gen_ai.request.max_tokens",
        "max_completion_tokens": "gen_ai.request.max_tokens",
        "frequency_penalty": "gen_ai.request.frequency_penalty",
        "presence_penalty": "gen_ai.request.presence_penalty",
        "seed": "gen_ai.request.seed",
    }
)


def asked(spec: Spec, *, with_content: bool) -> dict[str, Value]:
    """Of a run that begins."""
    found: dict[str, Value] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": _PROVIDERS.get(spec.provider.name, spec.provider.name),
        "gen_ai.request.model": spec.model,
        "loquent.generation_id": spec.id,
    }
    if spec.conversation_id is not None:
        found["gen_ai.conversation.id"] = spec.conversation_id
    for option, name in _NUMBERS.items():
        value = spec.request.options.get(option)
        if isinstance(value, int | float):
            found[name] = value
    if with_content:
        found["gen_ai.input.messages"] = _json([_message(one) for one in spec.request.messages])
    return found


def answered(run: Run, *, with_content: bool) -> dict[str, Value]:
    """Of a run that has ended."""
    usage, reason = run.usage, run.transcript.finish_reason
    found: dict[str, Value] = {
        "gen_ai.provider.name": _PROVIDERS.get(run.spec.provider.name, run.spec.provider.name),
        "gen_ai.response.model": run.model,
        "gen_ai.response.id": run.spec.id,
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "loquent.status": str(run.status),
    }
    if usage.cached_tokens:
        found["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
    if usage.reasoning_tokens:
        found["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning_tokens
    if reason is not None:
        found["gen_ai.response.finish_reasons"] = [str(reason)]
    first = run.first_token_seconds
    if first is not None:
        found["gen_ai.response.time_to_first_chunk"] = first
    if with_content:
        part = {"type": "text", "content": run.transcript.text}
        said = {"role": "assistant", "parts": [part], "finish_reason": str(reason or run.status)}
        found["gen_ai.output.messages"] = _json([said])
    return found


@contextlib.contextmanager
def tool_call(
    trace: Trace, meter: Meter, tool: Tool, arguments: Mapping[str, object], key: str
) -> Generator[Callable[[ToolResult], None]]:
    """Counts a call and gives it a span; what it yields is told the result."""
    attributes: dict[str, Value] = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": tool.name,
        "gen_ai.tool.call.id": key,
        "gen_ai.tool.type": "function",
    }
    if trace.shows_content:
        attributes["gen_ai.tool.call.arguments"] = _json(arguments)
    outcome, began = "left", time.perf_counter()
    with trace.span(f"execute_tool {tool.name}", Side.INTERNAL, attributes) as span:

        def tell(result: ToolResult) -> None:
            nonlocal outcome
            outcome = "error" if result.is_error else "ok"
            if trace.shows_content:
                span.note({"gen_ai.tool.call.result": result.text})

        try:
            yield tell
        except ToolError as error:
            outcome = error.code.value
            raise
        finally:
            if outcome != "ok":
                span.fail(outcome)
            meter.tool_called(tool.name, outcome, time.perf_counter() - began)


def _message(message: ChatMessage) -> dict[str, object]:
    content = message.get("content")
    parts: Sequence[object] = content if isinstance(content, list) else [{"type": "text", "content": content or ""}]
    return {"role": message["role"], "parts": parts}


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
