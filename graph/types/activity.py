"""What runs now, as administrators see it."""

import strawberry

from graph.types.generation import GenerationStatus
from graph.types.payload import UserError
from resolvers.activity import Active

NANOS = 1_000_000_000


@strawberry.type(description="A run that goes on now. What is said in it is not told.")
class ActiveGeneration:
    id: strawberry.ID = strawberry.field(description="ID of the run.")
    user_id: strawberry.ID = strawberry.field(description="ID of the user whose run it is.")
    user_name: str | None = strawberry.field(
        description="Name or e-mail address of that user; null for a guest without a name, or one who is gone."
    )
    credential_id: strawberry.ID | None = strawberry.field(
        description="What the user came with: ID of an API key (`key_…`) or of a sign-in (`ses_…`)."
    )
    conversation_id: strawberry.ID | None = strawberry.field(
        description="ID of the conversation that it writes into; null for a run on its own."
    )
    model_name: str = strawberry.field(description="Name of the model that runs.")
    provider_name: str = strawberry.field(description="Name of the upstream that runs it.")
    worker_id: strawberry.ID = strawberry.field(description="ID of the process that holds it.")
    seconds: float = strawberry.field(description="How long it has run.")
    completion_tokens: int = strawberry.field(description="Tokens that the model has written, as far as we can count.")
    tokens_per_second: float = strawberry.field(description="How fast it has written lately.")
    cost: float | None = strawberry.field(
        description="What it has cost so far in US dollars; null where no price is known."
    )
    viewers: int = strawberry.field(description="How many follow it now, in all processes.")
    is_durable: bool = strawberry.field(description="Whether what is said is stored.")

    @classmethod
    def from_active(cls, active: Active) -> "ActiveGeneration":
        one, user = active.activity, active.user
        return cls(
            id=strawberry.ID(one.id),
            user_id=strawberry.ID(one.user_id),
            user_name=(user.display_name or user.email) if user is not None else None,
            credential_id=strawberry.ID(one.credential_id) if one.credential_id is not None else None,
            conversation_id=strawberry.ID(one.conversation_id) if one.conversation_id is not None else None,
            model_name=one.model,
            provider_name=one.provider,
            worker_id=strawberry.ID(one.worker_id),
            seconds=one.seconds,
            completion_tokens=one.tokens,
            tokens_per_second=round(active.speed, 2),
            cost=one.cost / NANOS if one.cost is not None else None,
            viewers=one.viewers,
            is_durable=one.is_durable,
        )


@strawberry.input(description="A run to stop.")
class StopGenerationInput:
    id: strawberry.ID = strawberry.field(description="The run, whosever it is.")


@strawberry.type(description="What stopping a run gives.")
class StopGenerationPayload:
    stopped_id: strawberry.ID | None = strawberry.field(default=None, description="ID of the run.")
    status: GenerationStatus | None = strawberry.field(default=None, description="State of the run now.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")
