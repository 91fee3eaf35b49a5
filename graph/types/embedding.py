"""Vectors of texts."""

import strawberry

from graph.types.payload import UserError
from resolvers.texts import Embedded


@strawberry.input(description="Texts to be made vectors.")
class CreateEmbeddingsInput:
    texts: list[str] = strawberry.field(description="1 to 2,048 texts.")
    model: str | None = strawberry.field(
        default=strawberry.UNSET, description="Name of the model; the operator's default where not given."
    )
    dimensions: int | None = strawberry.field(
        default=strawberry.UNSET, description="How long the vectors shall be, for models that have a choice."
    )


@strawberry.type(description="Vectors of texts, in the order of the texts.")
class CreateEmbeddingsPayload:
    embeddings: list[list[float]] | None = strawberry.field(default=None, description="A vector for each text.")
    model: str | None = strawberry.field(default=None, description="Name of the model that made them.")
    prompt_tokens: int | None = strawberry.field(default=None, description="How many tokens the texts have.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")

    @classmethod
    def from_embedded(cls, found: Embedded) -> "CreateEmbeddingsPayload":
        return cls(
            embeddings=[list(vector) for vector in found.vectors],
            model=found.run.model,
            prompt_tokens=found.usage.prompt_tokens,
        )
