"""Every REST route, as data: method, path, scope, handler, what is asked and what is answered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ExceptionHandler

from resolvers.access import PUBLIC, READ, WRITE
from resolvers.call import Services
from rest_compat import auth, chat, conversations, health, items, models
from rest_compat.completions import Completion
from rest_compat.conversations import NewConversation
from rest_compat.endpoint import Endpoint, Operation, bare, operation, request_id_of
from rest_compat.errors import Problem
from rest_compat.items import NewItems
from rest_compat.listing import ListQuery
from rest_compat.shapes import ConversationObject, ItemObject, List, ModelObject, SignIn, Status

# The busiest first: routes are tried in this order.
OPERATIONS = (
    operation(
        "POST", "/v1/chat/completions", WRITE, chat.complete,
        request=dict[str, object], response=Completion, is_watched=True,
    ),
    operation(
        "POST", "/v1/conversations", WRITE, conversations.create,
        request=NewConversation, response=ConversationObject,
    ),
    operation("GET", "/v1/conversations", READ, conversations.list_page, request=ListQuery, response=List),
    bare("GET", "/v1/conversations/{id}", READ, conversations.get, response=ConversationObject),
    operation("POST", "/v1/conversations/{id}/items", WRITE, items.post, request=NewItems, response=ItemObject),
    operation("GET", "/v1/conversations/{id}/items", READ, items.list_page, request=ListQuery, response=List),
    operation("POST", "/v1/conversations/{id}/messages", WRITE, items.post, request=NewItems, response=ItemObject),
    operation("GET", "/v1/conversations/{id}/messages", READ, items.list_page, request=ListQuery, response=List),
    bare("GET", "/v1/models", PUBLIC, models.list_all, response=List),
    bare("GET", "/v1/models/{id:path}", PUBLIC, models.get, response=ModelObject),
    bare("POST", "/auth/guest-login", PUBLIC, auth.guest_login, response=SignIn),
    bare("GET", "/healthz", PUBLIC, health.alive, response=Status),
    bare("GET", "/health", PUBLIC, health.alive, response=Status),
)  # fmt: skip

PREFIXES = {"v1": ("", "/llm", "/api/llm"), "auth": ("", "/llm")}

_CODES = {404: "not_found", 405: "method_not_allowed"}
_MESSAGES = {404: "There is nothing at this path", 405: "This path has no such method"}


def routes(services: Services, ready: Callable[[], Awaitable[bool]]) -> list[BaseRoute]:
    """All routes, at every address at which they answer. `ready` says whether this process can work."""
    readiness = bare("GET", "/ready", PUBLIC, health.readiness(ready), response=Status)
    endpoints = [(path, Endpoint(services, found)) for path, found in _by_path([*OPERATIONS, readiness]).items()]
    return [Route(prefix + path, endpoint) for path, endpoint in endpoints for prefix in _prefixes(path)]


def exception_handlers() -> dict[object, ExceptionHandler]:
    """For `Starlette(exception_handlers=…)`: a path or method that nobody answers is refused in JSON too."""
    return {HTTPException: _refuse}


def _by_path(operations: Sequence[Operation]) -> dict[str, list[Operation]]:
    found = defaultdict(list)
    for one in operations:
        found[one.path].append(one)
    return found


def _prefixes(path: str) -> Sequence[str]:
    return PREFIXES.get(path.split("/")[1], ("",))


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "invalid_request")
    wrong = Problem(error.status_code, code, _MESSAGES.get(error.status_code, error.detail))
    return Response(
        wrong.body(request_id_of(request.scope)),
        error.status_code,
        headers=dict(error.headers or {}),
        media_type="application/json",
    )
