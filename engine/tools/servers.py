"""Tool servers: what is said of one, how it stands, and what it offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from engine.vault import Secret


class ServerState(StrEnum):
    """How a server stands, as this process sees it."""

    AVAILABLE = "available"
    CONNECTING = "connecting"
    DISABLED = "disabled"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """Where a server is. With a `command` it is a process of ours, else it is at `url`.

    `is_guarded` where not the operator has named the address: then it must be a public one. `tags` are those of all its tools.
    """

    name: str
    command: str = ""
    args: Sequence[str] = ()
    environment: Mapping[str, Secret] = field(default_factory=dict)
    folder: str | None = None
    url: str = ""
    headers: Mapping[str, Secret] = field(default_factory=dict)
    is_guarded: bool = False
    tags: Sequence[str] = ()
    patience: float = 60.0


@dataclass(frozen=True, slots=True)
class Offer:
    """A tool as its server tells of it. `problem` where it cannot be used."""

    name: str
    title: str
    description: str
    parameters: Mapping[str, object]
    tags: Sequence[str]
    problem: str = ""
