"""Whether the process lives, whether it can work, and which version it is. Most of it is for strangers: probes know no key."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from resolvers import health
from resolvers.access import PUBLIC, READ
from rest_compat.endpoint import Ask, Operation, Reply, bare
from rest_compat.shapes import Status, moment


class Readiness(msgspec.Struct, frozen=True, omit_defaults=True):
    """`away` names what is missing; without some of that the process works all the same."""

    status: str
    away: Sequence[str] = ()


class Version(msgspec.Struct, frozen=True, omit_defaults=True):
    """`env_reloaded_at` is when the settings were read."""

    version: str
    env_reloaded_at: str = ""


async def alive(_: Ask) -> Reply:
    return Reply(msgspec.json.encode(Status("ok")))


async def checked(_: Ask) -> Reply:
    return Reply(msgspec.json.encode("ok"))


async def ready(ask: Ask) -> Reply:
    missing = await ask.call.services.away()
    if health.is_enough(missing):
        return Reply(msgspec.json.encode(Readiness("ready", tuple(missing))))
    return Reply(msgspec.json.encode(Readiness("not_ready", tuple(missing))), 503)


async def version(_: Ask) -> Reply:
    return Reply(msgspec.json.encode(Version(health.version())))


async def version_since(ask: Ask) -> Reply:
    return Reply(msgspec.json.encode(Version(health.version(), moment(ask.call.services.meter.began))))


OPERATIONS: Sequence[Operation] = (
    bare("GET", "/healthz", PUBLIC, alive, response=Status, is_counted=False),
    bare("GET", "/health", PUBLIC, alive, response=Status, is_counted=False),
    bare("GET", "/healthcheck", PUBLIC, checked, response=str, is_counted=False),
    bare("GET", "/ready", PUBLIC, ready, response=Readiness, is_counted=False),
    bare("GET", "/readyz", PUBLIC, ready, response=Readiness, is_counted=False),
    bare("GET", "/version", PUBLIC, version, response=Version, is_counted=False),
    bare("GET", "/v1/healthz", READ, alive, response=Status),
    bare("GET", "/v1/readyz", READ, ready, response=Readiness),
    bare("GET", "/v1/version", READ, version_since, response=Version),
)
