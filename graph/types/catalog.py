"""The models that callers may name."""

from enum import Enum

import strawberry
from strawberry.scalars import JSON

from graph.relay import Info, Node, given, resolved, shaped
from graph.types.lifecycle import ModelStatus
from resolvers import catalog, parameters

PREFIX = "model_"


@strawberry.enum(description="What a model is able to do.")
class ModelCapability(Enum):
    CHAT = strawberry.enum_value("chat", description="Answers messages.")
    EMBEDDINGS = strawberry.enum_value("embeddings", description="Turns text into vectors.")
    REASONING = strawberry.enum_value("reasoning", description="Shows its reasoning.")
    TOOLS = strawberry.enum_value("tools", description="Asks for tools to be called.")
    VISION = strawberry.enum_value("vision", description="Reads images.")
    AUDIO = strawberry.enum_value("audio", description="Hears sound.")
    BROWSER = strawberry.enum_value("browser", description="Reads the web by itself.")


@strawberry.enum(description="Whether a model would answer now, as far as that is known.")
class ModelAvailability(Enum):
    AVAILABLE = strawberry.enum_value("available", description="Its provider lists it, and answers.")
    UNKNOWN = strawberry.enum_value("unknown", description="Its provider lists no models, or not this one.")
    UNAVAILABLE = strawberry.enum_value("unavailable", description="Nobody who serves it answers.")


# Providers may tell of more than is known here.
CAPABILITIES = {name.lower(): capability for name, capability in ModelCapability.__members__.items()}


@strawberry.type(description="What tokens cost: US dollars for a million of them.")
class Prices:
    prompt: float = strawberry.field(description="Those that go in.")
    completion: float = strawberry.field(description="Those that come out.")
    cached: float | None = strawberry.field(
        description="Those that go in and that the provider had kept; as `prompt` when null."
    )

    @classmethod
    def from_prices(cls, found: catalog.Prices | None) -> "Prices | None":
        return cls(prompt=found.prompt, completion=found.completion, cached=found.cached) if found is not None else None


@strawberry.input(description="Which models. Those that match all that is given.")
class ModelFilter:
    capabilities: list[ModelCapability] | None = strawberry.field(
        default=strawberry.UNSET, description="Only those that can do all of this."
    )
    provider: str | None = strawberry.field(
        default=strawberry.UNSET, description="Only those of this provider, or of this kind of provider."
    )
    search: str | None = strawberry.field(default=strawberry.UNSET, description="Only those with this in their names.")
    is_available: bool | None = strawberry.field(
        default=strawberry.UNSET, description="Only those that may answer now, or only the others."
    )
    is_enabled: bool | None = strawberry.field(
        default=True, description="Those that can be used; false for those that are switched off, for administrators."
    )

    def wanted(self) -> catalog.ModelFilter:
        is_enabled = given(self.is_enabled)
        return catalog.ModelFilter(
            capabilities=[str(one.value) for one in given(self.capabilities) or ()],
            provider=given(self.provider),
            search=given(self.search),
            is_enabled=is_enabled is None or is_enabled,
            is_available=given(self.is_available),
        )


@strawberry.type(description="Who serves models, or could.")
class Provider:
    name: str = strawberry.field(description="Its name, as `Model.providerName` and provider keys have it.")
    vendor: str = strawberry.field(description="What kind of server it is.")
    is_configured: bool = strawberry.field(description="Whether it is in use here.")
    is_available: bool = strawberry.field(description="Whether it listed its models when it was last asked.")
    model_count: int = strawberry.field(description="How many models it lists.")

    @classmethod
    def from_provider(cls, found: catalog.Provider) -> "Provider":
        return cls(
            name=found.name,
            vendor=found.vendor,
            is_configured=found.is_configured,
            is_available=found.is_available,
            model_count=found.model_count,
        )


@strawberry.type(description="A model that can be named in `GenerateOptions.model`.")
class Model(Node):
    name: str = strawberry.field(description="The name to ask for it by.")
    display_name: str = strawberry.field(description="Name for people.")
    description: str = strawberry.field(description="What it is, in a sentence or two; empty when unknown.")
    provider_name: str = strawberry.field(description="Who serves it; the first where several do.")
    capabilities: list[ModelCapability] = strawberry.field(
        description="What it is able to do, as far as that is known."
    )
    context_length: int | None = strawberry.field(description="Tokens that fit into one run; null when unknown.")
    max_output: int | None = strawberry.field(description="Tokens that it writes at most; null when unknown.")
    prices: Prices | None = strawberry.field(description="What it costs; null when unknown.")
    availability: ModelAvailability = strawberry.field(description="Whether it would answer now.")
    is_enabled: bool = strawberry.field(description="Whether it can be used; what cannot, administrators alone see.")
    is_default: bool = strawberry.field(description="Whether it answers where no model is named.")
    tags: list[str] = strawberry.field(description="What administrators have marked it with.")
    fallbacks: list[str] = strawberry.field(
        description="Names of models that answer in its place when it fails before its first word."
    )
    entry: strawberry.Private[catalog.Model]

    @resolved("JSON Schema of the parameters that it takes, by which requests are checked too.")
    def parameter_schema(self, info: Info) -> JSON:
        return JSON(parameters.schema(self.entry.bounds))

    @resolved("How it stands in memory; null for whoever may not see that.")
    async def status(self, info: Info) -> ModelStatus | None:
        return shaped(ModelStatus.from_status, await info.context.loaders.model_statuses.load(self.name))

    @classmethod
    def from_entry(cls, entry: catalog.Model) -> "Model":
        return cls(
            id=strawberry.ID(PREFIX + entry.name),
            name=entry.name,
            display_name=entry.display_name,
            description=entry.description,
            provider_name=entry.provider,
            capabilities=[CAPABILITIES[name] for name in entry.capabilities if name in CAPABILITIES],
            context_length=entry.context_length or None,
            max_output=entry.max_output or None,
            prices=Prices.from_prices(entry.prices),
            availability=ModelAvailability(entry.availability),
            is_enabled=entry.is_enabled,
            is_default=entry.is_default,
            tags=list(entry.tags),
            fallbacks=list(entry.fallbacks),
            entry=entry,
        )
