"""What stands in `mcp_servers`, in the words of MCP's clients: servers of tools, and how they are reached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    model_validator,
)

from engine.tools.servers import ServerSpec
from engine.vault import Secret
from server.model_list import from_environment


def _text(value: object) -> object:
    """YAML takes `8080` for a number and `true` for more than a word."""
    if isinstance(value, bool):
        return str(value).lower()
    return from_environment(str(value) if isinstance(value, int | float) else value)


_Secret = Annotated[SecretStr, BeforeValidator(_text)]
ServerName = Annotated[str, StringConstraints(pattern="^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")]
_Tag = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class ConfiguredServer(BaseModel):
    """One entry of `mcp_servers`: a `command` to run, or the `url` of a server of streamable HTTP."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    command: str | None = None
    args: tuple[_Secret, ...] = ()
    env: dict[str, _Secret] = {}
    cwd: str | None = None
    url: _Secret | None = None
    headers: dict[str, _Secret] = {}
    kind: Literal["stdio", "http", "streamable-http", "streamable_http", "streamableHttp"] | None = Field(
        default=None, validation_alias=AliasChoices("type", "transport")
    )
    tags: tuple[_Tag, ...] = ()
    timeout: float = Field(default=60.0, gt=0, le=3600)
    disabled: bool = False

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if (self.command is None) == (self.url is None):
            raise ValueError("give either the command of a server or its url")
        if self.url is not None and not self.url.get_secret_value().startswith(("http://", "https://")):
            raise ValueError("the url must begin with http:// or https://")
        return self


def specs(servers: Mapping[str, ConfiguredServer]) -> list[ServerSpec]:
    """Those that are not disabled."""
    return [_spec(name, one) for name, one in servers.items() if not one.disabled]


def unread(servers: object) -> Iterator[str]:
    """What the entries say in vain. What has the wrong shape is told of elsewhere."""
    known = {*ConfiguredServer.model_fields, "type", "transport"} - {"kind"}
    for name, entry in servers.items() if isinstance(servers, dict) else ():
        for key in entry if isinstance(entry, dict) else ():
            if key not in known:
                yield f"mcp_servers: {name}: {key} has no effect"


def _spec(name: str, one: ConfiguredServer) -> ServerSpec:
    return ServerSpec(
        name=name,
        command=one.command or "",
        args=tuple(arg.get_secret_value() for arg in one.args),
        environment=_secrets(one.env),
        folder=one.cwd,
        url=one.url.get_secret_value() if one.url is not None else "",
        headers=_secrets(one.headers),
        tags=one.tags,
        patience=one.timeout,
    )


def _secrets(found: Mapping[str, SecretStr]) -> dict[str, Secret]:
    return {name: Secret(value.get_secret_value()) for name, value in found.items()}
