"""Which models stand in memory."""

from datetime import datetime
from enum import Enum

import strawberry

from engine.events import Failure
from graph.relay import BigInt
from graph.types.failure import GenerationErrorCode
from graph.types.payload import UserError
from resolvers.lifecycle import Status


@strawberry.enum(description="Where a model is on its way into memory or out of it.")
class ModelState(Enum):
    UNLOADED = strawberry.enum_value("unloaded", description="Not in memory; the first use loads it.")
    QUEUED = strawberry.enum_value("queued", description="Waits to be loaded.")
    LOADING = strawberry.enum_value("loading", description="Is being loaded.")
    LOADED = strawberry.enum_value("loaded", description="Ready, and idle.")
    BUSY = strawberry.enum_value("busy", description="Ready, and answering.")
    UNLOADING = strawberry.enum_value("unloading", description="Is leaving memory.")
    ERROR = strawberry.enum_value("error", description="Not in memory: the last attempt to load it failed.")


@strawberry.type(description="Why a model could not be loaded.")
class ModelError:
    code: GenerationErrorCode = strawberry.field(description="The reason, for programs.")
    message: str = strawberry.field(description="The reason, for people.")
    is_retryable: bool = strawberry.field(description="Whether trying again may help.")

    @classmethod
    def from_failure(cls, failure: Failure) -> "ModelError":
        return cls(
            code=GenerationErrorCode(failure.code.value), message=failure.message, is_retryable=failure.is_retryable
        )


@strawberry.type(description="How a model stands. Each process of the server has a memory of its own.")
class ModelStatus:
    model_name: str = strawberry.field(description="The name to ask for the model by.")
    provider_name: str = strawberry.field(description="Who serves it.")
    state: ModelState = strawberry.field(description="Where it is on its way into memory or out of it.")
    is_managed: bool = strawberry.field(
        description="Whether it can be loaded and unloaded here. A service elsewhere has its models ready, so they are always LOADED."
    )
    queue_position: int | None = strawberry.field(
        description="Its place in the line, from 1; null when it does not wait."
    )
    queue_depth: int = strawberry.field(description="How many models wait there to be loaded.")
    busy_count: int = strawberry.field(description="How many answers are being written by it, or wait for it.")
    memory_bytes: BigInt | None = strawberry.field(description="What it takes in memory; null when unknown.")
    loaded_at: datetime | None = strawberry.field(description="When it was loaded; null when it is not, or unknown.")
    last_used_at: datetime | None = strawberry.field(description="When it was used last; null when unknown.")
    is_pinned: bool = strawberry.field(description="Whether it stays in memory once it is there.")
    error: ModelError | None = strawberry.field(description="Why it could not be loaded, when the state is ERROR.")

    @classmethod
    def from_status(cls, status: Status) -> "ModelStatus":
        residence = status.residence
        return cls(
            model_name=status.name,
            provider_name=status.provider,
            state=ModelState(status.state.value),
            is_managed=status.is_hosted,
            queue_position=residence.queue_position or None,
            queue_depth=residence.queue_depth,
            busy_count=residence.busy_count,
            memory_bytes=BigInt(residence.memory_bytes) if residence.memory_bytes is not None else None,
            loaded_at=residence.loaded_at,
            last_used_at=residence.last_used_at,
            is_pinned=residence.is_pinned,
            error=ModelError.from_failure(residence.failure) if residence.failure is not None else None,
        )


@strawberry.type(description="A model stands otherwise than before.")
class ModelStatusEvent:
    status: ModelStatus = strawberry.field(description="How it stands now.")
    worker_id: strawberry.ID = strawberry.field(description="ID of the process that tells this.")


@strawberry.input(description="A model to load.")
class LoadModelInput:
    name: str = strawberry.field(description="Its name, or `provider/name`.")
    wait: bool = strawberry.field(
        default=False, description="Answer only when it is loaded; else at once, and `modelStatus` tells the rest."
    )
    use_fallback: bool = strawberry.field(
        default=False,
        description="Where it cannot be loaded, load another: `fallbackName`, or those that the operator named.",
    )
    fallback_name: str | None = strawberry.field(
        default=strawberry.UNSET, description="The other model, instead of those that the operator named."
    )


@strawberry.type(description="What loading a model gives.")
class LoadModelPayload:
    status: ModelStatus | None = strawberry.field(
        default=None, description="How the model stands: the fallback, where that was loaded."
    )
    was_loaded: bool | None = strawberry.field(default=None, description="Whether it was in memory before.")
    is_fallback: bool | None = strawberry.field(
        default=None, description="Whether it is another model than was asked for."
    )
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")


@strawberry.input(description="A model to free.")
class UnloadModelInput:
    name: str = strawberry.field(description="Its name, or `provider/name`.")
    force: bool = strawberry.field(
        default=False,
        description="Also when it is busy, which ends the answers under way, or pinned. For administrators.",
    )


@strawberry.type(description="What freeing a model gives.")
class UnloadModelPayload:
    status: ModelStatus | None = strawberry.field(default=None, description="How the model stands now.")
    was_loaded: bool | None = strawberry.field(default=None, description="Whether there was anything to free.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")


@strawberry.input(description="A model to pin, or not to pin any longer.")
class PinModelInput:
    name: str = strawberry.field(description="Its name, or `provider/name`.")
    is_pinned: bool = strawberry.field(default=True, description="Whether it stays in memory once it is there.")


@strawberry.type(description="What pinning a model gives.")
class PinModelPayload:
    status: ModelStatus | None = strawberry.field(default=None, description="How the model stands now.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")
