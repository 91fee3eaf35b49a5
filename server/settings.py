"""The reader of the environment, with `model_list`: environment first, then the YAML file, then the defaults. Frozen once read."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from sqlalchemy.exc import ArgumentError

from db.base import STATEMENT_SECONDS, database_url
from server import configuration, ollama_host
from server.configuration import SettingsError as SettingsError
from server.model_list import ConfiguredModel
from server.tool_list import ConfiguredServer, ServerName

_FILE = "LOQUENT_CONFIG"
# How much a name must look like another one to be taken for a slip of it.
_ALIKE = 0.85


def _separated(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _named(*names: str) -> object:
    return Field(validation_alias=AliasChoices(*names))


def _a_minute(value: object) -> object:
    return value.removesuffix("/minute") if isinstance(value, str) else value


def _seconds(value: object) -> object:
    """From what others write with a unit: 500ms, 5s, 1m."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m)", value.strip()) if isinstance(value, str) else None
    return float(found[1]) * _UNITS[found[2]] if found is not None else value


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}


def _asked(value: object) -> object:
    return ollama_host.address(value) if isinstance(value, str) else value


_ADDRESS = Field(pattern="^https?://[^/]")
# 0 stands for no limit.
_COUNT = Field(ge=0, le=1_000_000_000)
_RATE = BeforeValidator(_a_minute)
_SECONDS = Field(gt=0, le=3600)
_OLLAMA = BeforeValidator(_asked)


class Settings(BaseModel):
    """Every setting under its documented name. In the YAML file the same names, upper or lower case.

    What stands below a field is its meaning, which `server/reference.py` reads: pydantic would read it at each start.
    """

    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        protected_namespaces=(),
        validate_by_name=True,
    )

    host: Annotated[str, _named("HOST")] = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65535), _named("PORT", "HTTP_PORT")] = 8000
    """Port to listen on; 0 for any free one."""
    workers: Annotated[int, Field(ge=1, le=256), _named("WORKERS", "WEB_CONCURRENCY")] = 1
    """Processes that serve; more than one need PostgreSQL."""
    data: Annotated[Path, _named("LOQUENT_DATA")] = Path("data")
    """Folder of the embedded database, the signing key and the master secret."""
    database_url: Annotated[SecretStr | None, _named("DATABASE_URL", "DB_DSN")] = None
    """Address of PostgreSQL or SQLite; an SQLite file in LOQUENT_DATA where not set."""
    database_timeout: Annotated[float, _SECONDS, _named("DATABASE_TIMEOUT")] = STATEMENT_SECONDS
    """Seconds that one statement may take in PostgreSQL before it is given up."""
    models: Annotated[Path | None, _named("LOQUENT_MODELS")] = None
    """Folder of GGUF files that llama.cpp serves on this machine."""
    models_loaded_max: Annotated[int, Field(ge=1, le=1000), _named("MODELS_LOADED_MAX")] = 1
    """Models of that folder in memory at once; the one unused for longest makes room."""
    model_idle_unload: Annotated[
        float, Field(ge=0, le=30 * 86400), BeforeValidator(_seconds), _named("MODEL_IDLE_UNLOAD")
    ] = 0
    """Seconds without use after which a model leaves the memory; 0 for never (with Ollama: for its own default)."""
    pinned_models: Annotated[tuple[str, ...], BeforeValidator(_separated), _named("PINNED_MODELS")] = ()
    """Names of models, separated by commas, that stay in memory once they are there; administrators can change it."""
    model_list: Annotated[tuple[ConfiguredModel, ...], _named("MODEL_LIST")] = ()
    """Models under names of your choice, in LiteLLM's form; stands in the YAML file."""
    provider_networks: Annotated[
        tuple[IPvAnyNetwork, ...], BeforeValidator(_separated), _named("PROVIDER_NETWORKS")
    ] = ()
    """Networks, separated by commas, in which providers may be that administrators add, beside the public internet."""
    mcp_servers: Annotated[dict[ServerName, ConfiguredServer], _named("MCP_SERVERS", "MCPSERVERS")] = {}
    """Servers of tools that models may call, by name, in the form of MCP's clients; stands in the YAML file."""
    openai_api_key: Annotated[SecretStr | None, _named("OPENAI_API_KEY")] = None
    """Key of OpenAI; turns its models on."""
    openai_base_url: Annotated[str | None, _ADDRESS, _named("OPENAI_BASE_URL")] = None
    """Address of any server that speaks the published chat format, instead of OpenAI's."""
    anthropic_api_key: Annotated[SecretStr | None, _named("ANTHROPIC_API_KEY")] = None
    """Key of Anthropic; turns its models on."""
    anthropic_base_url: Annotated[str | None, _ADDRESS, _named("ANTHROPIC_BASE_URL")] = None
    """Address of a server that speaks Anthropic's Messages API, instead of Anthropic's."""
    openrouter_api_key: Annotated[SecretStr | None, _named("OPENROUTER_API_KEY")] = None
    """Key of OpenRouter; turns its models on."""
    groq_api_key: Annotated[SecretStr | None, _named("GROQ_API_KEY")] = None
    """Key of Groq; turns its models on."""
    mistral_api_key: Annotated[SecretStr | None, _named("MISTRAL_API_KEY")] = None
    """Key of Mistral; turns its models on."""
    deepseek_api_key: Annotated[SecretStr | None, _named("DEEPSEEK_API_KEY")] = None
    """Key of DeepSeek; turns its models on."""
    together_api_key: Annotated[SecretStr | None, _named("TOGETHER_API_KEY", "TOGETHERAI_API_KEY")] = None
    """Key of Together; turns its models on."""
    gemini_api_key: Annotated[SecretStr | None, _named("GEMINI_API_KEY")] = None
    """Key of Google; turns the Gemini models on."""
    vllm_base_url: Annotated[str | None, _ADDRESS, _named("VLLM_BASE_URL", "HOSTED_VLLM_API_BASE")] = None
    """Address of a vLLM server, beside OPENAI_BASE_URL."""
    lm_studio_base_url: Annotated[str | None, _ADDRESS, _named("LM_STUDIO_BASE_URL", "LM_STUDIO_API_BASE")] = None
    """Address of an LM Studio server, beside OPENAI_BASE_URL."""
    ollama_base_url: Annotated[
        str | None, _ADDRESS, _OLLAMA, _named("OLLAMA_HOST", "OLLAMA_BASE_URL", "OLLAMA_API_BASE")
    ] = None
    """Address of an Ollama server, such as localhost:11434; turns its models on."""
    ollama_api_key: Annotated[SecretStr | None, _named("OLLAMA_API_KEY")] = None
    """Key for an Ollama server that wants one; a server of one's own needs none."""
    default_model: Annotated[str | None, _named("DEFAULT_MODEL")] = None
    """The model of whoever names none; the first one where not set."""
    fallbacks: Annotated[tuple[dict[str, tuple[str, ...]], ...], _named("FALLBACKS")] = ()
    """For names of models, those that stand in where they fail; stands in the YAML file."""
    auto_reply: Annotated[bool, _named("AUTO_REPLY")] = True
    """Whether a user's message posted in the documented REST form starts a reply."""
    title_model: Annotated[str | None, _named("TITLE_MODEL")] = None
    """A model that writes titles after the first reply; a rule makes them where not set."""
    auto_migrate: Annotated[bool, _named("AUTO_MIGRATE")] = True
    """Whether the tables are brought up to date at start."""
    guests: Annotated[bool, _named("GUESTS")] = True
    """Whether guests may sign in."""
    invite_required: Annotated[bool, _named("INVITE_REQUIRED")] = False
    """Whether registering needs an invite."""
    admin_email: Annotated[str | None, _named("ADMIN_EMAIL")] = None
    """Address of the first administrator, made at start if there is none."""
    admin_password: Annotated[SecretStr | None, _named("ADMIN_PASSWORD")] = None
    """Password of the first administrator."""
    password_memory: Annotated[int, Field(ge=19 * 1024, le=4 * 1024 * 1024), _named("PASSWORD_MEMORY")] = 19 * 1024
    """KiB of memory that hashing a password takes."""
    password_iterations: Annotated[int, Field(ge=2, le=100), _named("PASSWORD_ITERATIONS")] = 2
    """Passes that hashing a password takes."""
    jwks_url: Annotated[str | None, Field(pattern="^https?://[^/]"), _named("JWKS_URL")] = None
    """Where the keys of an external issuer are; goes with ISSUER and AUDIENCE."""
    issuer: Annotated[str | None, _named("ISSUER")] = None
    """Who signs external tokens."""
    audience: Annotated[str | None, _named("AUDIENCE")] = None
    """For whom external tokens must be."""
    keycloak_base_url: Annotated[str | None, Field(pattern="^https?://[^/]"), _named("KEYCLOAK_BASE_URL")] = None
    """Stands for JWKS_URL where the issuer is a realm of Keycloak."""
    jwks_algorithms: Annotated[
        tuple[Literal["RS256", "ES256"], ...], BeforeValidator(_separated), _named("JWKS_ALGORITHMS")
    ] = ("RS256", "ES256")
    """What an external issuer may sign with."""
    admin_role: Annotated[str, Field(min_length=1), _named("ADMIN_ROLE")] = "admin"
    """The external issuer's role that makes an administrator."""
    redis_url: Annotated[SecretStr | None, _named("REDIS_URL")] = None
    """Redis or Valkey, by which many servers wake each other and count limits together."""
    upstream_connect_timeout: Annotated[float, _SECONDS, _named("UPSTREAM_CONNECT_TIMEOUT")] = 5.0
    """Seconds until a connection to a model server must stand."""
    upstream_first_byte_timeout: Annotated[float, _SECONDS, _named("UPSTREAM_FIRST_BYTE_TIMEOUT")] = 60.0
    """Seconds until a model server must begin to answer, retries included."""
    upstream_idle_timeout: Annotated[float, _SECONDS, _named("UPSTREAM_IDLE_TIMEOUT")] = 60.0
    """Seconds that a model server may be silent in the middle of an answer."""
    upstream_answer_timeout: Annotated[float, _SECONDS, _named("UPSTREAM_ANSWER_TIMEOUT")] = 600.0
    """Seconds that an answer in one piece may take."""
    upstream_concurrency: Annotated[int, Field(ge=1, le=100_000), _named("UPSTREAM_CONCURRENCY")] = 512
    """Answers that one model server gives at once; what comes beyond waits a moment and is then refused."""
    rate_limit: Annotated[int, _COUNT, _RATE, _named("RATE_LIMIT")] = 100
    """Requests a minute of a person; 0 for no limit."""
    guest_rate_limit: Annotated[int, _COUNT, _RATE, _named("GUEST_RATE_LIMIT")] = 60
    """Requests a minute of a guest; 0 for no limit."""
    address_rate_limit: Annotated[int, _COUNT, _RATE, _named("ADDRESS_RATE_LIMIT")] = 30
    """Requests a minute of an address before sign-in; 0 for no limit."""
    login_rate_limit: Annotated[int, _COUNT, _RATE, _named("LOGIN_RATE_LIMIT")] = 10
    """Sign-ins a minute of an account; 0 for no limit."""
    max_generations: Annotated[int, _COUNT, _named("MAX_GENERATIONS")] = 8
    """Generations that run at once for a person; 0 for no limit."""
    tool_turns: Annotated[int, Field(ge=1, le=100), _named("TOOL_TURNS")] = 8
    """How often a model is asked in one generation that calls tools of this server."""
    approval_seconds: Annotated[float, Field(ge=1, le=30 * 86_400), _named("APPROVAL_SECONDS")] = 3600.0
    """Seconds for which a generation waits for a person's leave to call a tool; then it ends."""
    tools_at_once: Annotated[int, Field(ge=1, le=64), _named("TOOLS_AT_ONCE")] = 4
    """Calls of one generation that run at the same time."""
    drain_seconds: Annotated[float, Field(ge=0, le=3600), _named("DRAIN_SECONDS")] = 20.0
    """Seconds that generations may go on once the server is told to stop."""
    events_kept: Annotated[float, Field(gt=0, le=24 * 366), _named("EVENTS_KEPT")] = 24.0
    """Hours for which a generation can be followed event by event after its end."""
    worker_timeout: Annotated[float, Field(ge=1, le=300), _named("WORKER_TIMEOUT")] = 12.0
    """Seconds of silence after which a worker counts as dead and its generations are ended."""
    guest_max_generations: Annotated[int, _COUNT, _named("GUEST_MAX_GENERATIONS")] = 2
    """Generations that run at once for a guest; 0 for no limit."""
    master_key: Annotated[SecretStr | None, _named("LOQUENT_MASTER_KEY")] = None
    """What provider keys are sealed with (several, the newest last); made in LOQUENT_DATA where not set."""
    api_key_env: Annotated[str, Field(pattern="^[a-z0-9]{1,16}$"), _named("API_KEY_ENV")] = "live"
    """The second part of API keys: sk_live_…."""
    demo_pace: Annotated[float, Field(ge=0, le=10), _named("DEMO_PACE")] = 0.02
    """Seconds between two words of the demo model."""
    log_level: Annotated[
        Literal["debug", "info", "warn", "warning", "error"], BeforeValidator(_lower), _named("LOG_LEVEL")
    ] = "info"
    """The least that is logged."""
    log_format: Annotated[Literal["json", "text"] | None, BeforeValidator(_lower), _named("LOG_FORMAT")] = None
    """Form of the log; text on a terminal and else JSON where not set."""
    persisted_documents: Annotated[Path | None, _named("PERSISTED_DOCUMENTS")] = None
    """Manifest of persisted GraphQL documents, as GraphQL Code Generator, Relay or Apollo Client write it."""
    persisted_only: Annotated[bool, _named("PERSISTED_ONLY")] = False
    """Whether no other GraphQL documents than those of the manifest are served."""
    otel_enabled: Annotated[bool, _named("OTEL_ENABLED")] = False
    """Whether traces are sent by OpenTelemetry."""
    otel_service_name: Annotated[str, Field(min_length=1), _named("OTEL_SERVICE_NAME")] = "loquent"
    """What this server is called in traces."""
    otel_endpoint: Annotated[str | None, _ADDRESS, _named("OTEL_EXPORTER_OTLP_ENDPOINT")] = None
    """Where traces go; localhost, port 4317 for gRPC or 4318 for HTTP, where not set."""
    otel_protocol: Annotated[Literal["grpc", "http/protobuf"], _named("OTEL_EXPORTER_OTLP_PROTOCOL")] = "grpc"
    """How traces are sent."""
    otel_content: Annotated[
        bool, _named("OTEL_CAPTURE_CONTENT", "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT")
    ] = False
    """Whether what people ask and models say is put into traces."""
    media_resolve_url: Annotated[str | None, _ADDRESS, _named("MEDIA_RESOLVE_URL")] = None
    """Who is asked for media ids that this server does not know, such as http://media-api:8285/v1/media/resolve."""
    media_resolve_timeout: Annotated[
        float, BeforeValidator(_seconds), Field(gt=0, le=300), _named("MEDIA_RESOLVE_TIMEOUT")
    ] = 5.0
    """How long it may take: seconds, or with a unit such as 500ms, 5s or 1m."""
    media_limit: Annotated[int, Field(ge=1024, le=1 << 30), _named("MEDIA_LIMIT")] = 20 * 1024 * 1024
    """Bytes that a file brought for messages may have."""
    media_quota: Annotated[int, Field(ge=1024), _named("MEDIA_QUOTA")] = 500 * 1024 * 1024
    """Bytes that all files of a person may have."""
    cors_origins: Annotated[tuple[str, ...], BeforeValidator(_separated), _named("CORS_ORIGINS")] = ()
    """Pages of other origins that may call, separated by commas; * for all."""
    body_limit: Annotated[int, Field(ge=1024), _named("BODY_LIMIT")] = 10 * 1024 * 1024
    """Bytes that a request's body may have."""
    body_timeout: Annotated[float, Field(gt=0, le=3600), _named("BODY_TIMEOUT")] = 30.0
    """Seconds that a request's body may take."""

    @field_validator("database_url")
    @classmethod
    def _is_an_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            try:
                database_url(value.get_secret_value())
            except (ArgumentError, ValueError):
                # Their own words could show the password.
                raise ValueError("not an address of SQLite or PostgreSQL, such as postgresql://host/name") from None
        return value

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.match(r"(rediss?|unix)://.", value.get_secret_value()):
            raise ValueError("not an address of Redis, such as redis://host:6379/0")
        return value

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        """What only works together is there together: half an external sign-in must not look like one."""
        if (self.admin_email is None) != (self.admin_password is None):
            raise ValueError("ADMIN_EMAIL and ADMIN_PASSWORD go together")
        if self.persisted_only and self.persisted_documents is None:
            raise ValueError("PERSISTED_ONLY needs PERSISTED_DOCUMENTS")
        external = (self.issuer, self.audience, self.keys_address)
        if None in external and (any(external) or self.keycloak_base_url):
            raise ValueError("external sign-in needs JWKS_URL, ISSUER and AUDIENCE")
        return self

    @property
    def keys_address(self) -> str | None:
        """Where the external issuer's keys are; of a realm of Keycloak it is known without being said."""
        path = urlsplit(self.issuer or "").path.rstrip("/")
        if self.jwks_url is not None or self.keycloak_base_url is None or "/realms/" not in path:
            return self.jwks_url
        return f"{self.keycloak_base_url.rstrip('/')}{path}/protocol/openid-connect/certs"

    @property
    def database_address(self) -> str:
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data / 'loquent.db'}"


def load(**overrides: object) -> tuple[Settings, list[str]]:
    """The settings, and a line for everything in the YAML file that has no effect. `overrides` go before everything.

    Raises SettingsError.
    """
    written, warnings = configuration.written(os.environ.get(_FILE), _fields())
    found: dict[str, object] = {}
    for field in Settings.model_fields:
        variable = _variable(field)
        if field in overrides:
            found[field] = overrides[field]
        elif variable is not None:
            found[variable] = os.environ[variable]
        elif field in written:
            found[field] = written[field]
    try:
        return Settings.model_validate(found), warnings
    except ValidationError as error:
        raise SettingsError("\n".join(map(_line, error.errors(include_url=False, include_input=False)))) from None


def origins() -> dict[str, str]:
    """Where the value of each field comes from, under its Python name. Raises SettingsError."""
    written, _ = configuration.written(os.environ.get(_FILE), _fields())
    found = {}
    for field in Settings.model_fields:
        variable = _variable(field)
        if variable is not None:
            found[field] = f"environment {variable}"
        else:
            found[field] = f"file {configuration.path(os.environ.get(_FILE))}" if field in written else "default"
    return found


def near_misses() -> list[str]:
    """A line for each variable of the environment that looks like a misspelled setting."""
    names = [*_fields(), _FILE]
    lines = []
    for name in os.environ:
        near = difflib.get_close_matches(name, names, n=1, cutoff=_ALIKE) if name not in names else []
        if near and near[0] not in os.environ:
            lines.append(f"{name} has no effect; did you mean {near[0]}?")
    return lines


def _fields() -> dict[str, str]:
    return {name: field for field in Settings.model_fields for name in variables(field)}


def variables(field: str) -> list[str]:
    """The names that a field has in the environment, the first one first."""
    alias = Settings.model_fields[field].validation_alias
    return [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else []


def _variable(field: str) -> str | None:
    """The environment's variable that sets this field."""
    return next((name for name in variables(field) if os.environ.get(name)), None)


def _line(error: ErrorDetails) -> str:
    place = [str(part) for part in error["loc"]]
    if not place:
        # What is wrong with several of them names them itself.
        return error["msg"].removeprefix("Value error, ")
    for field in Settings.model_fields:
        if place[0] in variables(field):
            place[0] = _variable(field) or place[0]
    return f"{'.'.join(place)}: {error['msg'].removeprefix('Value error, ')}"
