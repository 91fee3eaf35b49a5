"""How a model may be asked to run."""

from enum import Enum

import strawberry

from graph.relay import given
from graph.types.content import ContentInput
from graph.types.repetition import Repeatable
from resolvers.generations import OnDisconnect as Ownership
from resolvers.generations import Options


@strawberry.enum(description="What becomes of a run when the last of its viewers leaves before the end.")
class OnDisconnect(Enum):
    CONTINUE = strawberry.enum_value("continue", description="It goes on; whoever comes back finds it.")
    CANCEL = strawberry.enum_value("cancel", description="It is stopped.")
    CANCEL_AFTER = strawberry.enum_value(
        "cancel_after", description="It is stopped unless somebody comes back within `disconnectGraceSeconds`."
    )


@strawberry.input(description="How to run a model. What is left out is as the model has it.")
class GenerateOptions:
    model: str | None = strawberry.field(
        default=strawberry.UNSET, description="Name of the model; the server's default one when left out."
    )
    temperature: float | None = strawberry.field(default=strawberry.UNSET, description="Randomness: 0 to 2.")
    top_p: float | None = strawberry.field(
        default=strawberry.UNSET, description="Share of the likeliest tokens to choose from: 0 to 1."
    )
    max_tokens: int | None = strawberry.field(default=strawberry.UNSET, description="The most tokens to write: from 1.")
    stop: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="Texts that end the answer before they appear in it: at most 16."
    )
    tools: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET,
        description="Tools of this server that the model may call: names, IDs, or `server/*`. None when left out.",
    )
    on_disconnect: OnDisconnect | None = strawberry.field(
        default=OnDisconnect.CONTINUE, description="What becomes of the run when the last of its viewers leaves."
    )
    disconnect_grace_seconds: float | None = strawberry.field(
        default=strawberry.UNSET, description="For CANCEL_AFTER: 0 to 3600 seconds; 30 when left out."
    )

    def options(self) -> Options:
        named = {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_tokens, "stop": self.stop}
        ownership = Ownership[(self.on_disconnect or OnDisconnect.CONTINUE).name]
        parameters = {name: value for name, value in named.items() if given(value) is not None}
        grace, tools = given(self.disconnect_grace_seconds), given(self.tools)
        if grace is None:
            return Options(given(self.model), parameters, ownership, tools=tools)
        return Options(given(self.model), parameters, ownership, grace, tools)


@strawberry.input(description="A question to a model, outside any conversation.")
class GenerateInput(Repeatable):
    content: list[ContentInput] = strawberry.field(description="The question: 1 to 100 pieces.")
    options: GenerateOptions | None = strawberry.field(default=strawberry.UNSET, description="How to run the model.")


@strawberry.input(description="Which run to stop.")
class CancelGenerationInput:
    id: strawberry.ID = strawberry.field(description="ID of the run.")
