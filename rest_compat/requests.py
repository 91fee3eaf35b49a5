"""Requests: what the second family of documents calls a generation, whichever door has started it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import msgspec

from db.models import Generation, GenerationStatus
from resolvers import history
from resolvers.errors import NotFound
from rest_compat.endpoint import Ask, Reply

Status = Literal["pending", "queued", "running", "completed", "cancelled", "failed"]

_STATUSES: Mapping[GenerationStatus, Status] = MappingProxyType(
    {
        GenerationStatus.QUEUED: "queued",
        GenerationStatus.RUNNING: "running",
        # For a person, as `/v1/approvals` tells.
        GenerationStatus.REQUIRES_APPROVAL: "pending",
        GenerationStatus.COMPLETED: "completed",
        # With all that there was room for.
        GenerationStatus.INCOMPLETE: "completed",
        GenerationStatus.CANCELLED: "cancelled",
        GenerationStatus.FAILED: "failed",
    }
)
_COMPLETION = "chatcmpl-"


class RequestStatus(msgspec.Struct, frozen=True):
    """`queue_position` is null for one that does not wait."""

    request_id: str
    status: Status
    queue_position: int | None = None


class RequestCancelled(msgspec.Struct, frozen=True):
    """`cancelled`: whether it ended because somebody asked for that."""

    request_id: str
    cancelled: bool
    status: Status


async def status(ask: Ask) -> Reply:
    row = await history.find(ask.call, _generation_id(ask))
    if row is None:
        raise NotFound("Request", ask.path["id"])
    return Reply(msgspec.json.encode(RequestStatus(ask.path["id"], _status(row))))


async def cancel(ask: Ask) -> Reply:
    try:
        row = await history.cancel(ask.call, _generation_id(ask))
    except NotFound as error:
        raise NotFound("Request", ask.path["id"]) from error
    found = _status(row)
    return Reply(msgspec.json.encode(RequestCancelled(ask.path["id"], found == "cancelled", found)))


def _generation_id(ask: Ask) -> str:
    """A completion is also known by the id of its answer."""
    id = ask.path["id"]
    return id.replace(_COMPLETION, "gen_", 1) if id.startswith(_COMPLETION) else id


def _status(row: Generation) -> Status:
    return _STATUSES[GenerationStatus(row.status)]
