"""What goes wrong with models, by name."""

from enum import Enum

import strawberry


@strawberry.enum(description="Why a run failed. The names stay the same from release to release.")
class GenerationErrorCode(Enum):
    CONTEXT_LENGTH_EXCEEDED = strawberry.enum_value(
        "context_length_exceeded", description="The conversation does not fit into the model."
    )
    INTERNAL = strawberry.enum_value("internal", description="A fault of this server.")
    INVALID_REQUEST = strawberry.enum_value("invalid_request", description="The provider refused the request.")
    MODEL_NOT_FOUND = strawberry.enum_value("model_not_found", description="The provider does not know the model.")
    PROVIDER_AUTH = strawberry.enum_value("provider_auth", description="The provider refused our credential.")
    PROVIDER_ERROR = strawberry.enum_value("provider_error", description="The provider failed.")
    PROVIDER_PROTOCOL = strawberry.enum_value("provider_protocol", description="The provider's answer made no sense.")
    RATE_LIMITED = strawberry.enum_value("rate_limited", description="The provider takes no more for now.")
    STORAGE = strawberry.enum_value("storage", description="The answer could not be stored.")
    TIMEOUT = strawberry.enum_value("timeout", description="The provider took too long.")
    UNAVAILABLE = strawberry.enum_value("unavailable", description="The provider could not be reached.")
    WORKER_LOST = strawberry.enum_value("worker_lost", description="The server that ran it was lost.")
