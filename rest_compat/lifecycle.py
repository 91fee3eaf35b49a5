"""The second family's model lifecycle: status, load, unload, and what stands in memory."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from resolvers import lifecycle
from resolvers.lifecycle import ModelState, Status
from rest_compat import body, shapes
from rest_compat.endpoint import Ask, Reply

Runtime = Literal["unloaded", "loading", "loaded", "busy"]

_ACCEPTED = 202
_ELSEWHERE = "This model is not held in this server's memory; whoever serves it has it ready"


class LoadRequest(msgspec.Struct, frozen=True):
    """`use_fallback`: where the model cannot be loaded, `fallback_model_id` is, or those that the operator has named."""

    wait: bool = False
    use_fallback: bool = False
    fallback_model_id: str | None = None


class UnloadRequest(msgspec.Struct, frozen=True):
    """`force`, also in the query string, ends the answers under way; for administrators."""

    force: bool | None = None


class ModelFault(msgspec.Struct, frozen=True):
    code: str
    message: str


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`runtime_status` in the words of that family: what waits to be loaded is `loading`, what failed to load is `unloaded`;
    `state` tells that apart. `queue_depth` are the loads that wait there, `queue_position` counts from 1. `is_managed` is
    false for models of services elsewhere, which are neither loaded nor unloaded here. `worker_id` is the process that
    answers: each has a memory of its own."""

    model_id: str
    runtime_status: Runtime
    queue_depth: int
    state: str
    queue_position: int | None
    is_managed: bool
    is_pinned: bool
    is_busy: bool
    busy_count: int
    memory_bytes: int | None
    loaded_at: str | None
    last_used_at: str | None
    error: ModelFault | None
    worker_id: str


class LifecycleAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`model_id` is another than was asked for where a fallback was loaded."""

    model_id: str
    status: Runtime
    message: str
    fallback_used: bool = False


class LoadedModel(msgspec.Struct, frozen=True, kw_only=True):
    """`memory_bytes` is null where it cannot be known."""

    model_id: str
    provider: str
    loaded_at: str | None
    last_used_at: str | None
    is_pinned: bool
    memory_bytes: int | None
    is_busy: bool
    busy_count: int


class LoadedModels(msgspec.Struct, frozen=True, kw_only=True):
    """Models that are held in the memory of this server, or of a server of models beside it; services elsewhere hold none
    here."""

    object: Literal["list"] = "list"
    models: list[LoadedModel]
    data: list[LoadedModel]


async def status(ask: Ask) -> Reply:
    found = await lifecycle.status(ask.call, ask.path["id"])
    residence = found.residence
    failure = residence.failure
    answer = ModelStatus(
        model_id=found.name,
        runtime_status=_runtime(found.state),
        queue_depth=residence.queue_depth,
        state=found.state,
        queue_position=residence.queue_position or None,
        is_managed=found.is_hosted,
        is_pinned=residence.is_pinned,
        is_busy=residence.busy_count > 0,
        busy_count=residence.busy_count,
        memory_bytes=residence.memory_bytes,
        loaded_at=_moment(residence.loaded_at),
        last_used_at=_moment(residence.last_used_at),
        error=ModelFault(failure.code.value, failure.message) if failure is not None else None,
        worker_id=lifecycle.worker_id(ask.call),
    )
    return Reply(msgspec.json.encode(answer))


async def load(ask: Ask, request: LoadRequest) -> Reply:
    found = await lifecycle.load(
        ask.call,
        ask.path["id"],
        is_awaited=request.wait,
        may_fall_back=request.use_fallback,
        fallback=request.fallback_model_id,
    )
    state = found.status.state
    if state.is_in_memory:
        message = "Model already loaded" if found.was_there else "Model loaded"
        return _told(found.status, message if found.status.is_hosted else _ELSEWHERE, is_fallback=found.is_fallback)
    message = "Model is loading" if state is ModelState.LOADING else "Model loading started"
    answer = LifecycleAnswer(model_id=found.status.name, status="loading", message=message)
    return Reply(msgspec.json.encode(answer), _ACCEPTED)


async def unload(ask: Ask, request: UnloadRequest) -> Reply:
    asked = body.typed(body.parse_query(ask.query), UnloadRequest, is_text=True)
    is_forced = asked.force if request.force is None else request.force
    found = await lifecycle.unload(ask.call, ask.path["id"], is_forced=bool(is_forced))
    if not found.status.is_hosted:
        return _told(found.status, _ELSEWHERE)
    return _told(found.status, "Model unloaded" if found.was_loaded else "Model not loaded")


async def list_loaded(ask: Ask) -> Reply:
    models = [_loaded(one) for one in await lifecycle.loaded(ask.call)]
    return Reply(msgspec.json.encode(LoadedModels(models=models, data=models)))


def _told(found: Status, message: str, *, is_fallback: bool = False) -> Reply:
    answer = LifecycleAnswer(
        model_id=found.name, status=_runtime(found.state), message=message, fallback_used=is_fallback
    )
    return Reply(msgspec.json.encode(answer))


def _loaded(found: Status) -> LoadedModel:
    residence = found.residence
    return LoadedModel(
        model_id=found.name,
        provider=found.provider,
        loaded_at=_moment(residence.loaded_at),
        last_used_at=_moment(residence.last_used_at),
        is_pinned=residence.is_pinned,
        memory_bytes=residence.memory_bytes,
        is_busy=residence.busy_count > 0,
        busy_count=residence.busy_count,
    )


def _moment(value: datetime | None) -> str | None:
    return shapes.moment(value) if value is not None else None


def _runtime(state: ModelState) -> Runtime:
    match state:
        case ModelState.LOADED:
            return "loaded"
        case ModelState.BUSY:
            return "busy"
        case ModelState.QUEUED | ModelState.LOADING:
            return "loading"
        case _:
            return "unloaded"
