"""The only reader of the environment: environment first, then the YAML file, then the defaults. Frozen once read."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.exc import ArgumentError

from db.base import database_url

DEFAULT_CONFIG = "loquent.yaml"


class SettingsError(Exception):
    """The settings do not hold. One line for each fault; no line shows a value."""


class LitellmParams(BaseModel):
    """Where a configured model is served, in LiteLLM's words. `model` is `provider/upstream-name`."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    model: str = Field(pattern="^[^/]+/.+$")
    api_base: str | None = None
    api_key: SecretStr | None = None

    @field_validator("api_key", mode="before")
    @classmethod
    def _from_environment(cls, value: object) -> object:
        """LiteLLM's way to keep a key out of the file: `os.environ/NAME`."""
        if not isinstance(value, str) or not value.startswith("os.environ/"):
            return value
        name = value.removeprefix("os.environ/")
        if name not in os.environ:
            raise ValueError(f"the environment has no {name}")
        return os.environ[name]


class ConfiguredModel(BaseModel):
    """One entry of `model_list`: a public name and who serves it."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True, protected_namespaces=())

    model_name: str = Field(min_length=1, max_length=200)
    litellm_params: LitellmParams


def _separated(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _named(*names: str) -> object:
    return Field(validation_alias=AliasChoices(*names))


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
    data: Annotated[Path, _named("LOQUENT_DATA")] = Path("data")
    database_url: Annotated[SecretStr | None, _named("DATABASE_URL", "DB_DSN")] = None
    models: Annotated[Path | None, _named("LOQUENT_MODELS")] = None
    model_list: Annotated[tuple[ConfiguredModel, ...], NoDecode, _named("MODEL_LIST")] = ()
    openai_api_key: Annotated[SecretStr | None, _named("OPENAI_API_KEY")] = None
    openai_base_url: Annotated[str | None, Field(pattern="^https?://[^/]"), _named("OPENAI_BASE_URL")] = None
    auto_reply: Annotated[bool, _named("AUTO_REPLY")] = True
    auto_migrate: Annotated[bool, _named("AUTO_MIGRATE")] = True
    guests: Annotated[bool, _named("GUESTS")] = True
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
            continue
        near = difflib.get_close_matches(str(key).upper(), fields, n=1)
        hint = f"; did you mean {near[0].lower()}?" if near else ""
        warnings.append(f"{path}: {key} has no effect{hint}")
    return written, warnings
