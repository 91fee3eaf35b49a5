"""What administrators see of models, and what they may say of them."""

from datetime import datetime

import strawberry

from graph.relay import Node, given
from graph.types.catalog import CAPABILITIES, Model, ModelCapability, Prices
from graph.types.payload import UserError
from resolvers import provider_models
from resolvers.catalog_models import Named
from resolvers.provider_models import Served, ServedFilter, Toggle
from resolvers.usage import dollars


@strawberry.type(description="Limits a minute; null for none.")
class ModelRateLimit:
    requests_per_minute: int | None = strawberry.field(description="How often it may be asked.")
    tokens_per_minute: int | None = strawberry.field(description="How many tokens may go in and come out.")


@strawberry.type(description="A model of a provider under a public name, and on what terms it is asked.")
class ProviderModel(Node):
    name: str = strawberry.field(description="The public name.")
    provider_name: str = strawberry.field(description="Who serves it.")
    vendor: str = strawberry.field(description="What kind of server that is.")
    upstream_name: str = strawberry.field(description="What the provider calls it.")
    display_name: str = strawberry.field(description="Name for people.")
    capabilities: list[ModelCapability] = strawberry.field(description="What it is able to do.")
    context_length: int | None = strawberry.field(description="Tokens that fit into one run; null when unknown.")
    max_output: int | None = strawberry.field(description="Tokens that it writes at most; null when unknown.")
    prices: Prices | None = strawberry.field(description="What it costs; null when unknown.")
    is_enabled: bool = strawberry.field(description="Whether it is asked at all.")
    is_listed: bool = strawberry.field(description="Whether the provider offers it at present.")
    default_temperature: float | None = strawberry.field(description="Where a request names none; null for none.")
    max_tokens_override: int | None = strawberry.field(
        description="The most that an answer may have; null for no bound."
    )
    rate_limit: ModelRateLimit = strawberry.field(description="How much it may be asked in a minute.")
    weight: float | None = strawberry.field(
        description="How often it is asked among others of its name; null as configured."
    )
    tags: list[str] = strawberry.field(description="What administrators have marked it with.")
    created_at: datetime = strawberry.field(description="When it was first seen.")
    updated_at: datetime = strawberry.field(description="When it last changed.")

    @classmethod
    def from_served(cls, found: Served) -> "ProviderModel":
        row, info = found.row, found.info
        return cls(
            id=strawberry.ID(row.id),
            name=row.name,
            provider_name=found.provider.name,
            vendor=found.provider.vendor,
            upstream_name=row.model,
            display_name=info.display_name or row.name,
            capabilities=[CAPABILITIES[name] for name in sorted(info.capabilities) if name in CAPABILITIES],
            context_length=info.context_length or None,
            max_output=info.max_output or None,
            prices=Prices.from_prices(info.prices),
            is_enabled=row.is_enabled,
            is_listed=row.is_listed,
            default_temperature=row.default_temperature,
            max_tokens_override=row.max_tokens,
            rate_limit=ModelRateLimit(
                requests_per_minute=row.requests_per_minute, tokens_per_minute=row.tokens_per_minute
            ),
            weight=row.weight,
            tags=row.tags,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )


@strawberry.type(description="A public name: how it looks to users, who serves it, and what it was used for.")
class CatalogModel:
    model: Model = strawberry.field(description="The model as users see it.")
    is_enabled: bool = strawberry.field(description="Whether the name itself can be used, whoever serves it.")
    is_changed: bool = strawberry.field(description="Whether administrators have changed it.")
    provider_models: list[ProviderModel] = strawberry.field(description="Who serves it.")
    total_requests: int = strawberry.field(description="How often it was ever asked.")
    total_cost: float = strawberry.field(
        description="US dollars that those requests cost together whose price was known."
    )
    updated_at: datetime = strawberry.field(description="When it was last changed.")

    @classmethod
    def from_named(cls, found: Named) -> "CatalogModel":
        return cls(
            model=Model.from_entry(found.model),
            is_enabled=found.row.is_enabled,
            is_changed=found.row.is_changed,
            provider_models=[ProviderModel.from_served(one) for one in found.served],
            total_requests=found.requests,
            total_cost=dollars(found.cost_nanos) or 0.0,
            updated_at=found.row.updated_at,
        )


@strawberry.input(description="Which of them: those that match all that is given.")
class ProviderModelFilter:
    provider: str | None = strawberry.field(
        default=strawberry.UNSET, description="Those of this provider: its name, its ID, or a kind of provider."
    )
    is_enabled: bool | None = strawberry.field(default=strawberry.UNSET, description="Those that are on, or off.")
    capabilities: list[ModelCapability] | None = strawberry.field(
        default=strawberry.UNSET, description="Those that can do all of this."
    )
    search: str | None = strawberry.field(default=strawberry.UNSET, description="Those with this in their names.")

    def wanted(self) -> ServedFilter:
        return ServedFilter(
            provider=given(self.provider),
            is_enabled=given(self.is_enabled),
            capabilities=[str(one.value) for one in given(self.capabilities) or ()],
            search=given(self.search),
        )


@strawberry.input(
    description="What a provider model shall become. What is left out stays; null goes back to what the provider says, or "
    "lifts a limit."
)
class UpdateProviderModelInput:
    id: strawberry.ID = strawberry.field(description="Its ID, or a name: then all who serve the name are meant.")
    is_enabled: bool | None = strawberry.field(default=strawberry.UNSET, description="Whether it is asked at all.")
    default_temperature: float | None = strawberry.field(
        default=strawberry.UNSET, description="Where a request names none: 0 to 2."
    )
    max_tokens_override: int | None = strawberry.field(
        default=strawberry.UNSET, description="The most tokens that an answer may have."
    )
    requests_per_minute: int | None = strawberry.field(
        default=strawberry.UNSET, description="How often it may be asked in a minute."
    )
    tokens_per_minute: int | None = strawberry.field(
        default=strawberry.UNSET, description="How many tokens may go in and come out in a minute."
    )
    weight: float | None = strawberry.field(
        default=strawberry.UNSET, description="How often it is asked among others of its name; 0 where others fail."
    )
    tags: list[str] | None = strawberry.field(default=strawberry.UNSET, description="What to mark it with: at most 32.")
    display_name: str | None = strawberry.field(default=strawberry.UNSET, description="Name for people.")
    description: str | None = strawberry.field(default=strawberry.UNSET, description="What it is.")
    capabilities: list[ModelCapability] | None = strawberry.field(
        default=strawberry.UNSET, description="What it is able to do."
    )
    context_length: int | None = strawberry.field(default=strawberry.UNSET, description="Tokens that fit into one run.")
    max_output: int | None = strawberry.field(default=strawberry.UNSET, description="Tokens that it writes at most.")
    prompt: float | None = strawberry.field(
        default=strawberry.UNSET, description="US dollars for a million tokens that go in."
    )
    completion: float | None = strawberry.field(
        default=strawberry.UNSET, description="US dollars for a million tokens that come out."
    )
    cached: float | None = strawberry.field(
        default=strawberry.UNSET,
        description="US dollars for a million tokens that go in and that the provider had kept.",
    )


@strawberry.input(
    description="What a public name shall become. What is left out stays; null goes back to what providers say."
)
class UpdateCatalogModelInput:
    name: str = strawberry.field(description="The public name.")
    is_enabled: bool | None = strawberry.field(default=strawberry.UNSET, description="Whether it can be used.")
    display_name: str | None = strawberry.field(default=strawberry.UNSET, description="Name for people.")
    description: str | None = strawberry.field(default=strawberry.UNSET, description="What it is.")
    capabilities: list[ModelCapability] | None = strawberry.field(
        default=strawberry.UNSET, description="What it is able to do."
    )
    tags: list[str] | None = strawberry.field(default=strawberry.UNSET, description="What to mark it with: at most 32.")
    fallbacks: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="Names of models that answer in its place when it fails: at most 16."
    )


@strawberry.input(one_of=True, description="Exactly one way to choose models.")
class ModelSelector:
    ids: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET, description="By their IDs or names: at most 1,000."
    )
    provider_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="All of a provider, by its ID or name."
    )


@strawberry.input(description="Models to switch on or off.")
class SetModelsEnabledInput:
    models: ModelSelector = strawberry.field(description="Which.")
    is_enabled: bool = strawberry.field(description="Whether they shall be used.")
    except_ids: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET, description="But not these, by their IDs or names."
    )
    reason: str | None = strawberry.field(
        default=strawberry.UNSET, description="Why, for the audit log: at most 500 characters."
    )

    def asked(self) -> Toggle:
        ids, provider = given(self.models.ids), given(self.models.provider_id)
        return Toggle(
            is_enabled=self.is_enabled,
            names=list(ids) if ids is not None else None,
            provider=provider,
            excepted=list(given(self.except_ids) or ()),
            reason=given(self.reason),
        )


@strawberry.input(description="Public names to switch on or off, whoever serves them.")
class SetCatalogModelsEnabledInput:
    names: list[str] = strawberry.field(description="Which: 1 to 1,000.")
    is_enabled: bool = strawberry.field(description="Whether they shall be used.")
    reason: str | None = strawberry.field(
        default=strawberry.UNSET, description="Why, for the audit log: at most 500 characters."
    )


@strawberry.type(description="A model of a bulk change that was not changed.")
class FailedModel:
    id: strawberry.ID = strawberry.field(description="As it was asked for.")
    message: str = strawberry.field(description="Why.")


@strawberry.type(description="What changing a provider model gives.")
class UpdateProviderModelPayload:
    provider_models: list[ProviderModel] = strawberry.field(
        default_factory=list, description="All that were meant, as they are now."
    )
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")


@strawberry.type(description="What changing a public name gives.")
class UpdateCatalogModelPayload:
    catalog_model: CatalogModel | None = strawberry.field(default=None, description="The name as it is now.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")


@strawberry.type(description="What switching models on or off gives.")
class SetModelsEnabledPayload:
    models: list[ProviderModel] = strawberry.field(default_factory=list, description="Those that are now as asked.")
    failed: list[FailedModel] = strawberry.field(default_factory=list, description="Those that are not, and why.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")


@strawberry.type(description="What switching public names on or off gives.")
class SetCatalogModelsEnabledPayload:
    models: list[CatalogModel] = strawberry.field(default_factory=list, description="Those that are now as asked.")
    failed: list[FailedModel] = strawberry.field(default_factory=list, description="Those that are not, and why.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")


def failures(found: provider_models.Failures) -> list[FailedModel]:
    return [FailedModel(id=strawberry.ID(id), message=message) for id, message in found.items()]
