"""The reader of the environment, with `model_list`: environment first, then the YAML file, then the defaults. Frozen once read."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.exc import ArgumentError

from db.base import STATEMENT_SECONDS, database_url
from server.model_list import ConfiguredModel, unread

DEFAULT_CONFIG = "loquent.yaml"
# Where LiteLLM's files have their fallbacks: a list of `name: [names]`.
_LITELLM_PARTS = ("router_settings", "litellm_settings")


class SettingsError(Exception):
    """The settings do not hold. One line for each fault; no line shows a value."""


def _separated(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _named(*names: str) -> object:
    return Field(validation_alias=AliasChoices(*names))


def _a_minute(value: object) -> object:
    return value.removesuffix("/minute") if isinstance(value, str) else value


_ADDRESS = Field(pattern="^https?://[^/]")
# 0 stands for no limit.
_COUNT = Field(ge=0, le=1_000_000_000)
_RATE = BeforeValidator(_a_minute)
_SECONDS = Field(gt=0, le=3600)


class Settings(BaseSettings):
    """Every setting under its documented name. In the YAML file the same names, upper or lower case."""

    model_config = SettingsConfigDict(
        case_sensitive=True,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        protected_namespaces=(),
        validate_by_name=True,
    )

    host: Annotated[str, _named("HOST")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535), _named("PORT", "HTTP_PORT")] = 8000
    workers: Annotated[int, Field(ge=1, le=256), _named("WORKERS", "WEB_CONCURRENCY")] = 1
    data: Annotated[Path, _named("LOQUENT_DATA")] = Path("data")
    database_url: Annotated[SecretStr | None, _named("DATABASE_URL", "DB_DSN")] = None
    database_timeout: Annotated[float, _SECONDS, _named("DATABASE_TIMEOUT")] = STATEMENT_SECONDS
    models: Annotated[Path | None, _named("LOQUENT_MODELS")] = None
    model_list: Annotated[tuple[ConfiguredModel, ...], NoDecode, _named("MODEL_LIST")] = ()
    openai_api_key: Annotated[SecretStr | None, _named("OPENAI_API_KEY")] = None
    openai_base_url: Annotated[str | None, _ADDRESS, _named("OPENAI_BASE_URL")] = None
    anthropic_api_key: Annotated[SecretStr | None, _named("ANTHROPIC_API_KEY")] = None
    anthropic_base_url: Annotated[str | None, _ADDRESS, _named("ANTHROPIC_BASE_URL")] = None
    openrouter_api_key: Annotated[SecretStr | None, _named("OPENROUTER_API_KEY")] = None
    groq_api_key: Annotated[SecretStr | None, _named("GROQ_API_KEY")] = None
    mistral_api_key: Annotated[SecretStr | None, _named("MISTRAL_API_KEY")] = None
    deepseek_api_key: Annotated[SecretStr | None, _named("DEEPSEEK_API_KEY")] = None
    together_api_key: Annotated[SecretStr | None, _named("TOGETHER_API_KEY", "TOGETHERAI_API_KEY")] = None
    gemini_api_key: Annotated[SecretStr | None, _named("GEMINI_API_KEY")] = None
    vllm_base_url: Annotated[str | None, _ADDRESS, _named("VLLM_BASE_URL", "HOSTED_VLLM_API_BASE")] = None
    lm_studio_base_url: Annotated[str | None, _ADDRESS, _named("LM_STUDIO_BASE_URL", "LM_STUDIO_API_BASE")] = None
    default_model: Annotated[str | None, _named("DEFAULT_MODEL")] = None
    fallbacks: Annotated[tuple[dict[str, tuple[str, ...]], ...], NoDecode, _named("FALLBACKS")] = ()
    auto_reply: Annotated[bool, _named("AUTO_REPLY")] = True
    title_model: Annotated[str | None, _named("TITLE_MODEL")] = None
    auto_migrate: Annotated[bool, _named("AUTO_MIGRATE")] = True
    guests: Annotated[bool, _named("GUESTS")] = True
    invite_required: Annotated[bool, _named("INVITE_REQUIRED")] = False
    admin_email: Annotated[str | None, _named("ADMIN_EMAIL")] = None
    admin_password: Annotated[SecretStr | None, _named("ADMIN_PASSWORD")] = None
    password_memory: Annotated[int, Field(ge=19 * 1024, le=4 * 1024 * 1024), _named("PASSWORD_MEMORY")] = 19 * 1024
    password_iterations: Annotated[int, Field(ge=2, le=100), _named("PASSWORD_ITERATIONS")] = 2
    jwks_url: Annotated[str | None, Field(pattern="^https?://[^/]"), _named("JWKS_URL")] = None
    issuer: Annotated[str | None, _named("ISSUER")] = None
    audience: Annotated[str | None, _named("AUDIENCE")] = None
    keycloak_base_url: Annotated[str | None, Field(pattern="^https?://[^/]"), _named("KEYCLOAK_BASE_URL")] = None
    jwks_algorithms: Annotated[
        tuple[Literal["RS256", "ES256"], ...], NoDecode, BeforeValidator(_separated), _named("JWKS_ALGORITHMS")
    ] = ("RS256", "ES256")
    admin_role: Annotated[str, Field(min_length=1), _named("ADMIN_ROLE")] = "admin"
    redis_url: Annotated[SecretStr | None, _named("REDIS_URL")] = None
    upstream_connect_timeout: Annotated[float, _SECONDS, _named("UPSTREAM_CONNECT_TIMEOUT")] = 5.0
    upstream_first_byte_timeout: Annotated[float, _SECONDS, _named("UPSTREAM_FIRST_BYTE_TIMEOUT")] = 60.0
    upstream_idle_timeout: Annotated[float, _SECONDS, _named("UPSTREAM_IDLE_TIMEOUT")] = 60.0
    upstream_answer_timeout: Annotated[float, _SECONDS, _named("UPSTREAM_ANSWER_TIMEOUT")] = 600.0
    upstream_concurrency: Annotated[int, Field(ge=1, le=100_000), _named("UPSTREAM_CONCURRENCY")] = 512
    rate_limit: Annotated[int, _COUNT, _RATE, _named("RATE_LIMIT")] = 100
    guest_rate_limit: Annotated[int, _COUNT, _RATE, _named("GUEST_RATE_LIMIT")] = 60
    address_rate_limit: Annotated[int, _COUNT, _RATE, _named("ADDRESS_RATE_LIMIT")] = 30
    login_rate_limit: Annotated[int, _COUNT, _RATE, _named("LOGIN_RATE_LIMIT")] = 10
    max_generations: Annotated[int, _COUNT, _named("MAX_GENERATIONS")] = 8
    drain_seconds: Annotated[float, Field(ge=0, le=3600), _named("DRAIN_SECONDS")] = 20.0
    events_kept: Annotated[float, Field(gt=0, le=24 * 366), _named("EVENTS_KEPT")] = 24.0
    worker_timeout: Annotated[float, Field(ge=1, le=300), _named("WORKER_TIMEOUT")] = 12.0
    guest_max_generations: Annotated[int, _COUNT, _named("GUEST_MAX_GENERATIONS")] = 2
    master_key: Annotated[SecretStr | None, _named("LOQUENT_MASTER_KEY")] = None
    api_key_env: Annotated[str, Field(pattern="^[a-z0-9]{1,16}$"), _named("API_KEY_ENV")] = "live"
    demo_pace: Annotated[float, Field(ge=0, le=10), _named("DEMO_PACE")] = 0.02
    log_level: Annotated[
        Literal["debug", "info", "warn", "warning", "error"], BeforeValidator(_lower), _named("LOG_LEVEL")
    ] = "info"
    log_format: Annotated[Literal["json", "text"] | None, BeforeValidator(_lower), _named("LOG_FORMAT")] = None
    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_separated), _named("CORS_ORIGINS")] = ()
    body_limit: Annotated[int, Field(ge=1024), _named("BODY_LIMIT")] = 10 * 1024 * 1024
    body_timeout: Annotated[float, Field(gt=0, le=3600), _named("BODY_TIMEOUT")] = 30.0

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
    written, warnings = _written()
    below = {name: value for name, value in written.items() if not _variable(name)}
    try:
        return Settings(**{**below, **overrides}), warnings  # type: ignore[arg-type]
    except ValidationError as error:
        raise SettingsError("\n".join(map(_line, error.errors(include_url=False, include_input=False)))) from None


def _variables(field: str) -> list[str]:
    alias = Settings.model_fields[field].validation_alias
    return [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else []


def _variable(field: str) -> str | None:
    """The environment's variable that sets this field."""
    return next((name for name in _variables(field) if os.environ.get(name)), None)


def _line(error: ErrorDetails) -> str:
    place = [str(part) for part in error["loc"]]
    if not place:
        # What is wrong with several of them names them itself.
        return error["msg"].removeprefix("Value error, ")
    for field in Settings.model_fields:
        if place[0] in _variables(field):
            place[0] = _variable(field) or place[0]
    return f"{'.'.join(place)}: {error['msg'].removeprefix('Value error, ')}"


def _written() -> tuple[dict[str, object], list[str]]:
    """The fields that the YAML file sets, under their Python names, and what it holds beside them."""
    named = os.environ.get("LOQUENT_CONFIG")
    path = Path(named or DEFAULT_CONFIG)
    if not named and not path.is_file():
        return {}, []
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"LOQUENT_CONFIG: {path} cannot be read ({type(error).__name__})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise SettingsError(f"LOQUENT_CONFIG: {path} is not YAML{where}") from None
    if not isinstance(content, dict):
        raise SettingsError(f"LOQUENT_CONFIG: {path} must hold `name: value` lines")
    return _sorted_out(content, path)


def _sorted_out(content: dict[object, object], path: Path) -> tuple[dict[str, object], list[str]]:
    fields = {name: field for field in Settings.model_fields for name in _variables(field)}
    written: dict[str, object] = {}
    warnings: list[str] = []
    for key, value in content.items():
        field = fields.get(str(key).upper())
        if field is not None:
            written[field] = value
            if field == "model_list":
                warnings += [f"{path}: {line}" for line in unread(value)]
            continue
        if key in _LITELLM_PARTS and isinstance(value, dict):
            written.setdefault("fallbacks", value.get("fallbacks", ()))
            warnings += [f"{path}: {key}.{name} has no effect" for name in value if name != "fallbacks"]
            continue
        near = difflib.get_close_matches(str(key).upper(), fields, n=1)
        hint = f"; did you mean {near[0].lower()}?" if near else ""
        warnings.append(f"{path}: {key} has no effect{hint}")
    return written, warnings
