"""The models that callers may name."""

from __future__ import annotations

from enum import Enum

import strawberry

from graph.relay import Node
from resolvers import catalog

PREFIX = "model_"


@strawberry.enum(description="What a model is able to do.")
class ModelCapability(Enum):
    CHAT = strawberry.enum_value("chat", description="Answers messages.")
    EMBEDDINGS = strawberry.enum_value("embeddings", description="Turns text into vectors.")
    REASONING = strawberry.enum_value("reasoning", description="Shows its reasoning.")
    TOOLS = strawberry.enum_value("tools", description="Asks for tools to be called.")
    VISION = strawberry.enum_value("vision", description="Reads images.")


# Providers may tell of more than is known here.
_CAPABILITIES = {name.lower(): capability for name, capability in ModelCapability.__members__.items()}


@strawberry.type(description="A model that can be named in `GenerateOptions.model`.")
class Model(Node):
    name: str = strawberry.field(description="The name to ask for it by.")
    display_name: str = strawberry.field(description="Name for people.")
    description: str = strawberry.field(description="What it is, in a sentence or two; empty when unknown.")
    provider_name: str = strawberry.field(description="Who serves it.")
    capabilities: list[ModelCapability] = strawberry.field(
        description="What it is able to do, as far as that is known."
    )
    context_length: int | None = strawberry.field(description="Tokens that fit into one run; null when unknown.")

    @classmethod
    def from_entry(cls, entry: catalog.Model) -> Model:
        return cls(
            id=strawberry.ID(PREFIX + entry.name),
            name=entry.name,
            display_name=entry.display_name,
            description=entry.description,
            provider_name=entry.provider,
            capabilities=[_CAPABILITIES[name] for name in entry.capabilities if name in _CAPABILITIES],
            context_length=entry.context_length or None,
        )
