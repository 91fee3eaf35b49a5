"""Every REST route, as data: method, path, scope, handler, what is asked and what is answered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from types import NoneType

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ExceptionHandler

from resolvers.access import KEYS_WRITE, PROVIDERS_WRITE, PUBLIC, READ, WRITE
from resolvers.call import Services
from rest_compat import api_keys, auth, chat, conversations, health, items, models, provider_keys, users
from rest_compat.api_keys import KeyDeleted, KeyQuery, KeyRequest, TokenObject, TokenRevoked
from rest_compat.auth import RefreshRequest, RevokeRequest, UpgradeRequest
from rest_compat.completions import Completion
from rest_compat.conversations import NewConversation
from rest_compat.endpoint import Endpoint, Operation, bare, operation, request_id_of
from rest_compat.errors import Problem
from rest_compat.items import NewItems
from rest_compat.listing import ListQuery
from rest_compat.provider_keys import ProviderKeyDeleted, ProviderKeyRequest
from rest_compat.shapes import (
    ApiKeyObject,
    ConversationObject,
    Identity,
    ItemObject,
    List,
    Login,
    Message,
    ModelObject,
    ProfileObject,
    ProviderKeyObject,
    Renewed,
    SignIn,
    Status,
    Upgraded,
    UserObject,
    Validity,
)
from rest_compat.users import LoginRequest, ProfileRequest, RegisterRequest

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
    operation("POST", "/auth/refresh", PUBLIC, auth.refresh, request=RefreshRequest, response=Renewed),
    operation("POST", "/auth/refresh-token", PUBLIC, auth.refresh, request=RefreshRequest, response=Renewed),
    bare("GET", "/auth/refresh-token", PUBLIC, auth.refresh_by_header, response=Renewed),
    operation("POST", "/auth/revoke", PUBLIC, auth.revoke, request=RevokeRequest, response=Message),
    bare("POST", "/auth/logout", PUBLIC, auth.logout, response=Status),
    bare("GET", "/auth/logout", PUBLIC, auth.logout, response=Status),
    operation("POST", "/auth/upgrade", WRITE, auth.upgrade, request=UpgradeRequest, response=Upgraded),
    bare("GET", "/auth/me", READ, auth.me, response=Identity),
    bare("POST", "/auth/validate", READ, auth.validate, response=Validity),
    operation("POST", "/v1/users/register", PUBLIC, users.register, request=RegisterRequest, response=UserObject),
    operation("POST", "/v1/users/login", PUBLIC, users.login, request=LoginRequest, response=Login),
    bare("GET", "/v1/users/me", READ, users.me, response=ProfileObject),
    operation("PATCH", "/v1/users/me", WRITE, users.update, request=ProfileRequest, response=ProfileObject),
    operation("POST", "/auth/api-keys", KEYS_WRITE, api_keys.create, request=KeyRequest, response=ApiKeyObject),
    operation("GET", "/auth/api-keys", READ, api_keys.list_page, request=KeyQuery, response=List),
    # Before the one without the gateway's prefix, which is answered otherwise.
    bare("DELETE", "/llm/auth/api-keys/{id}", KEYS_WRITE, api_keys.revoke_and_tell, response=KeyDeleted),
    bare("DELETE", "/auth/api-keys/{id}", KEYS_WRITE, api_keys.revoke, response=NoneType),
    operation("POST", "/v1/users/tokens", KEYS_WRITE, api_keys.create_token, request=KeyRequest, response=TokenObject),
    bare("GET", "/v1/users/tokens", READ, api_keys.list_tokens, response=list[ApiKeyObject]),
    bare("DELETE", "/v1/users/tokens/{id}", KEYS_WRITE, api_keys.revoke_token, response=TokenRevoked),
    operation(
        "POST", "/v1/users/provider-keys", PROVIDERS_WRITE, provider_keys.put,
        request=ProviderKeyRequest, response=ProviderKeyObject,
    ),
    bare("GET", "/v1/users/provider-keys", READ, provider_keys.list_all, response=list[ProviderKeyObject]),
    bare(
        "DELETE", "/v1/users/provider-keys/{provider}", PROVIDERS_WRITE, provider_keys.delete,
        response=ProviderKeyDeleted,
    ),
    bare("GET", "/healthz", PUBLIC, health.alive, response=Status, is_counted=False),
    bare("GET", "/health", PUBLIC, health.alive, response=Status, is_counted=False),
)  # fmt: skip

PREFIXES = {"v1": ("", "/llm", "/api/llm"), "auth": ("", "/llm")}

_CODES = {404: "not_found", 405: "method_not_allowed"}
_MESSAGES = {404: "There is nothing at this path", 405: "This path has no such method"}


def routes(services: Services, ready: Callable[[], Awaitable[bool]]) -> list[BaseRoute]:
    """All routes, at every address at which they answer. `ready` says whether this process can work."""
    readiness = bare("GET", "/ready", PUBLIC, health.readiness(ready), response=Status, is_counted=False)
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
