"""Providers as administrators keep them."""

from datetime import datetime

import strawberry
from msgspec import UNSET
from strawberry.scalars import JSON

from graph.relay import Node, given
from graph.types.payload import UserError
from resolvers.providers import Detailed, NewProvider, ProviderChange, Tested


@strawberry.type(description="A provider, for administrators. Its key is used, and never shown.")
class AdminProvider(Node):
    name: str = strawberry.field(description="Its name, as `Model.providerName` has it.")
    vendor: str = strawberry.field(description="What kind of server it is.")
    base_url: str = strawberry.field(description="Where it is.")
    key_hint: str | None = strawberry.field(
        description="How its key ends; null without one, and for those of the operator's settings."
    )
    is_configured: bool = strawberry.field(
        description="Whether it stands in the operator's settings: then it can only be switched on and off here."
    )
    is_active: bool = strawberry.field(description="Whether it is asked at all.")
    is_available: bool = strawberry.field(description="Whether it listed its models when it was last asked.")
    failure: str | None = strawberry.field(description="Why it did not, as a code; null where it did.")
    model_count: int = strawberry.field(description="How many models it lists.")
    enabled_model_count: int = strawberry.field(description="How many of them are on.")
    metadata: JSON = strawberry.field(description="What administrators have noted.")
    created_at: datetime = strawberry.field(description="When it was added.")
    updated_at: datetime = strawberry.field(description="When it was last changed.")

    @classmethod
    def from_detailed(cls, found: Detailed) -> "AdminProvider":
        row = found.row
        return cls(
            id=strawberry.ID(row.id),
            name=row.name,
            vendor=row.vendor,
            base_url=found.address,
            key_hint=row.hint,
            is_configured=row.is_configured,
            is_active=row.is_active,
            is_available=found.is_available,
            failure=found.failure.value if found.failure is not None else None,
            model_count=found.model_count,
            enabled_model_count=found.active_count,
            metadata=JSON(row.details),
            created_at=row.created_at,
            updated_at=row.updated_at,
        )


@strawberry.input(description="A provider to add. It is asked for its models at once.")
class CreateProviderInput:
    name: str = strawberry.field(description="A name for it: 1 to 64 letters, digits, spaces, dots and hyphens.")
    vendor: str = strawberry.field(
        description="What kind of server it is: a name of `providers`, or `custom` for any that speaks OpenAI's wire."
    )
    base_url: str | None = strawberry.field(
        default=strawberry.UNSET, description="Where it is; the usual place of its kind when left out."
    )
    api_key: str | None = strawberry.field(default=strawberry.UNSET, description="Its key; kept sealed, never shown.")
    is_active: bool | None = strawberry.field(default=True, description="Whether it shall be asked.")
    metadata: JSON | None = strawberry.field(default=strawberry.UNSET, description="What to note: a JSON object.")

    def new(self) -> NewProvider:
        is_active = given(self.is_active)
        return NewProvider(
            name=self.name,
            vendor=self.vendor,
            base_url=given(self.base_url) or "",
            api_key=given(self.api_key),
            is_active=is_active is None or is_active,
            metadata=given(self.metadata),
        )


@strawberry.input(
    description="What a provider shall become. What is left out stays; of the rest only a null key means something."
)
class UpdateProviderInput:
    id: strawberry.ID = strawberry.field(description="Its ID or name.")
    name: str | None = strawberry.field(default=strawberry.UNSET, description="Its name.")
    base_url: str | None = strawberry.field(
        default=strawberry.UNSET, description="Where it is. At another place another key is needed."
    )
    api_key: str | None = strawberry.field(default=strawberry.UNSET, description="Its key; null for none.")
    is_active: bool | None = strawberry.field(default=strawberry.UNSET, description="Whether it is asked at all.")
    metadata: JSON | None = strawberry.field(default=strawberry.UNSET, description="What to note: a JSON object.")

    def change(self) -> ProviderChange:
        name, base_url, is_active = given(self.name), given(self.base_url), given(self.is_active)
        metadata = given(self.metadata)
        return ProviderChange(
            name=UNSET if name is None else name,
            base_url=UNSET if base_url is None else base_url,
            api_key=UNSET if self.api_key is strawberry.UNSET else self.api_key,
            is_active=UNSET if is_active is None else is_active,
            metadata=UNSET if metadata is None else metadata,
        )


@strawberry.input(description="A provider.")
class ProviderInput:
    id: strawberry.ID = strawberry.field(description="Its ID or name.")


@strawberry.type(description="What adding, changing, refreshing or deleting a provider gives.")
class ProviderPayload:
    provider: AdminProvider | None = strawberry.field(default=None, description="The provider as it is, or was.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")


@strawberry.type(description="What asking a provider for its models came to. Nothing of it is stored.")
class TestProviderPayload:
    # It is no test, whatever its name begins with.
    __test__ = False

    is_answering: bool = strawberry.field(default=False, description="Whether it listed models.")
    model_count: int = strawberry.field(default=0, description="How many.")
    seconds: float = strawberry.field(default=0.0, description="How long it took.")
    code: str | None = strawberry.field(default=None, description="What went wrong, for programs; null for nothing.")
    message: str | None = strawberry.field(default=None, description="What went wrong, for people; null for nothing.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")

    @classmethod
    def from_tested(cls, found: Tested) -> "TestProviderPayload":
        return cls(
            is_answering=found.is_answering,
            model_count=found.model_count,
            seconds=found.seconds,
            code=found.code.value if found.code is not None else None,
            message=found.message,
        )
