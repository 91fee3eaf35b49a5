"""What happens in a run. Events are plain attributes only, so that one can be sent without an execution of its own."""

from __future__ import annotations

from typing import assert_never

import strawberry

from engine import events
from graph.types.content import ToolCallPart
from graph.types.generation import Generation, GenerationError


@strawberry.interface(description="Something that happened in a run.")
class GenerationEvent:
    generation_id: strawberry.ID = strawberry.field(description="ID of the run.")
    seq: int = strawberry.field(
        description="Number of the event: 1, 2, 3 … within the run. With `coalesceMs`, that of the last event merged."
    )


@strawberry.type(description="The run began.")
class GenerationStarted(GenerationEvent):
    model_name: str = strawberry.field(description="Name of the model that runs.")


@strawberry.type(
    description="All up to `seq` at once, for a viewer too far behind. Replaces what was put together before."
)
class GenerationSnapshot(GenerationEvent):
    text: str = strawberry.field(description="What the model has said so far.")
    reasoning: str = strawberry.field(description="The reasoning that the model has shown so far.")
    tool_calls: list[ToolCallPart] = strawberry.field(description="The tool calls so far.")


@strawberry.type(description="The model said more.")
class TextDelta(GenerationEvent):
    text: str = strawberry.field(description="Text to append.")


@strawberry.type(description="The model showed more of its reasoning.")
class ReasoningDelta(GenerationEvent):
    text: str = strawberry.field(description="Text to append.")


@strawberry.type(description="The model wrote more of a tool call.")
class ToolCallDelta(GenerationEvent):
    index: int = strawberry.field(description="Which of the run's tool calls, from 0.")
    tool_call_id: strawberry.ID | None = strawberry.field(description="ID of the call; on its first event only.")
    name: str | None = strawberry.field(description="Name of the tool; on the call's first event only.")
    arguments_text: str = strawberry.field(description="Text to append to the arguments.")


@strawberry.type(description="Last event: the model ended by itself.")
class GenerationCompleted(GenerationEvent):
    generation: Generation = strawberry.field(description="The run as it ended.")


@strawberry.type(description="Last event: the run met a bound of this server. What came before is kept.")
class GenerationIncomplete(GenerationEvent):
    generation: Generation = strawberry.field(description="The run as it ended.")


@strawberry.type(description="Last event: the run broke. What came before is kept.")
class GenerationFailed(GenerationEvent):
    error: GenerationError = strawberry.field(description="Why it failed.")
    generation: Generation = strawberry.field(description="The run as it ended.")


@strawberry.type(description="Last event: somebody stopped the run. What came before is kept.")
class GenerationCancelled(GenerationEvent):
    generation: Generation = strawberry.field(description="The run as it ended.")


def delta(id: strawberry.ID, event: events.Delta) -> GenerationEvent:
    match event:
        case events.TextDelta():
            return TextDelta(generation_id=id, seq=event.seq, text=event.text)
        case events.ReasoningDelta():
            return ReasoningDelta(generation_id=id, seq=event.seq, text=event.text)
        case events.ToolCallDelta():
            return ToolCallDelta(
                generation_id=id,
                seq=event.seq,
                index=event.index,
                tool_call_id=strawberry.ID(event.id) if event.id else None,
                name=event.name or None,
                arguments_text=event.arguments,
            )
        case _:
            assert_never(event)


def other(id: strawberry.ID, event: events.Started | events.Snapshot) -> GenerationEvent:
    match event:
        case events.Started():
            return GenerationStarted(generation_id=id, seq=event.seq, model_name=event.model)
        case events.Snapshot():
            calls = [
                ToolCallPart(id=strawberry.ID(call.id), name=call.name, arguments=call.arguments)
                for call in event.tool_calls
            ]
            return GenerationSnapshot(
                generation_id=id, seq=event.seq, text=event.text, reasoning=event.reasoning, tool_calls=calls
            )
        case _:
            assert_never(event)


def end(id: strawberry.ID, event: events.Terminal, run: Generation) -> GenerationEvent:
    match event:
        case events.Completed():
            return GenerationCompleted(generation_id=id, seq=event.seq, generation=run)
        case events.Incomplete():
            return GenerationIncomplete(generation_id=id, seq=event.seq, generation=run)
        case events.Cancelled():
            return GenerationCancelled(generation_id=id, seq=event.seq, generation=run)
        case events.Failed():
            error = GenerationError.from_failure(event.failure)
            return GenerationFailed(generation_id=id, seq=event.seq, error=error, generation=run)
        case _:
            assert_never(event)
