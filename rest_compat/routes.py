"""Every REST route, as data: method, path, scope, handler, what is asked and what is answered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from types import NoneType

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ExceptionHandler

from resolvers.access import ADMIN, KEYS_WRITE, PROVIDERS_WRITE, PUBLIC, READ, WRITE
from resolvers.call import Services
from rest_compat import (
    api_keys,
    approval_routes,
    auth,
    branches,
    chat,
    conversations,
    events,
    exports,
    generate,
    generation_events,
    generations,
    health,
    imports,
    items,
    media_routes,
    memories,
    model_routes,
    openapi,
    projects,
    provider_keys,
    provider_routes,
    requests,
    search,
    sessions,
    settings,
    shares,
    text_routes,
    tool_routes,
    usage,
    users,
)
from rest_compat.api_keys import KeyDeleted, KeyQuery, KeyRequest, TokenObject, TokenRevoked
from rest_compat.auth import RefreshRequest, RevokeRequest, UpgradeRequest
from rest_compat.branches import Activated, BranchList, NewBranch
from rest_compat.completions import Completion
from rest_compat.conversations import BulkDelete, ConversationChange, ConversationQuery, NewConversation
from rest_compat.endpoint import Endpoint, Operation, bare, operation, request_id_of, upload
from rest_compat.errors import Problem
from rest_compat.events import EventObject, EventQuery
from rest_compat.exports import ArchiveQuery, ExportQuery
from rest_compat.generate import GenerateObject, GenerateRequest
from rest_compat.generation_events import FollowQuery, GenerationEventObject
from rest_compat.generations import GenerationList, GenerationObject, GenerationQuery
from rest_compat.imports import ImportObject
from rest_compat.items import (
    ForkObject,
    ItemChange,
    ItemDeleted,
    ItemEdit,
    ItemQuery,
    NewItems,
    RatingRequest,
    Regeneration,
)
from rest_compat.listing import ListQuery
from rest_compat.memories import MemoryList, MemoryObject, NewMemory
from rest_compat.projects import NewProject, ProjectChange
from rest_compat.provider_keys import ProviderKeyDeleted, ProviderKeyRequest
from rest_compat.requests import RequestCancelled, RequestStatus
from rest_compat.search import HitList, SearchQuery
from rest_compat.sessions import NewSession, SessionChange, SessionList, SessionObject, SessionQuery
from rest_compat.settings import PreferencesObject, SettingsObject
from rest_compat.shapes import (
    ApiKeyObject,
    BranchObject,
    ConversationObject,
    Deleted,
    Identity,
    ItemObject,
    List,
    Login,
    ManyDeleted,
    Message,
    ProfileObject,
    ProjectObject,
    ProviderKeyObject,
    Renewed,
    SignIn,
    Status,
    Upgraded,
    UserObject,
    Validity,
)
from rest_compat.shared import PublicShare, ShareEvent
from rest_compat.shares import (
    Feedback,
    FeedbackCounted,
    ShareList,
    ShareObject,
    ShareQuery,
    ShareRequest,
    ShareTitle,
    ViewQuery,
)
from rest_compat.usage import (
    AllUsageQuery,
    BudgetDeleted,
    BudgetList,
    BudgetObject,
    BudgetQuery,
    BudgetRequest,
    UsageList,
    UsageQuery,
)
from rest_compat.users import LoginRequest, ProfileRequest, RegisterRequest


def _of_items(noun: str) -> Sequence[Operation]:
    """The routes of a conversation's items, which have two names."""
    all_of_them = f"/v1/conversations/{{id}}/{noun}"
    one = f"{all_of_them}/{{item_id}}"
    return (
        operation("POST", all_of_them, WRITE, items.post, request=NewItems, response=ItemObject),
        operation("GET", all_of_them, READ, items.list_page, request=ItemQuery, response=List[ItemObject]),
        bare("GET", one, READ, items.get, response=ItemObject),
        operation("PATCH", one, WRITE, items.change, request=ItemChange, response=ItemObject),
        bare("DELETE", one, WRITE, items.delete, response=ItemDeleted),
        operation("POST", f"{one}/edit", WRITE, items.edit, request=ItemEdit, response=ForkObject),
        operation(
            "POST", f"{one}/regenerate", WRITE, items.regenerate,
            request=Regeneration, response=ForkObject, is_watched=True,
        ),
        operation("POST", f"{one}/rating", WRITE, items.rate, request=RatingRequest, response=ItemObject),
    )  # fmt: skip


# The busiest first: routes are tried in this order.
OPERATIONS = (
    operation(
        "POST", "/v1/chat/completions", WRITE, chat.complete,
        request=dict[str, object], response=Completion, is_watched=True,
    ),
    operation(
        "POST", "/v1/generate", WRITE, generate.generate,
        request=GenerateRequest, response=GenerateObject, is_watched=True,
    ),
    operation("GET", "/v1/generations", READ, generations.list_page, request=GenerationQuery, response=GenerationList),
    bare("GET", "/v1/generations/{id}", READ, generations.get, response=GenerationObject),
    bare("POST", "/v1/generations/{id}/cancel", WRITE, generations.cancel, response=GenerationObject),
    operation(
        "GET", "/v1/generations/{id}/events", READ, generation_events.follow,
        request=FollowQuery, response=GenerationEventObject, is_watched=True,
    ),
    bare("GET", "/v1/requests/{id}/status", READ, requests.status, response=RequestStatus),
    bare("POST", "/v1/requests/{id}/cancel", WRITE, requests.cancel, response=RequestCancelled),
    operation(
        "POST", "/v1/conversations", WRITE, conversations.create,
        request=NewConversation, response=ConversationObject,
    ),
    operation("GET", "/v1/conversations", READ, conversations.list_page, request=ConversationQuery, response=List[ConversationObject]),
    bare("DELETE", "/v1/conversations", WRITE, conversations.delete_all, response=ManyDeleted),
    # Before the one with an id.
    operation(
        "POST", "/v1/conversations/bulk-delete", WRITE, conversations.delete_many,
        request=BulkDelete, response=ManyDeleted,
    ),
    bare("GET", "/v1/conversations/{id}", READ, conversations.get, response=ConversationObject),
    operation(
        "PATCH", "/v1/conversations/{id}", WRITE, conversations.merge,
        request=ConversationChange, response=ConversationObject,
    ),
    operation(
        "POST", "/v1/conversations/{id}", WRITE, conversations.replace,
        request=ConversationChange, response=ConversationObject,
    ),
    bare("DELETE", "/v1/conversations/{id}", WRITE, conversations.delete, response=Deleted),
    *_of_items("items"),
    *_of_items("messages"),
    bare("GET", "/v1/conversations/{id}/branches", READ, branches.list_all, response=BranchList),
    operation("POST", "/v1/conversations/{id}/branches", WRITE, branches.create, request=NewBranch, response=BranchObject),
    bare("GET", "/v1/conversations/{id}/branches/{name}", READ, branches.get, response=BranchObject),
    bare("POST", "/v1/conversations/{id}/branches/{name}/activate", WRITE, branches.activate, response=Activated),
    bare("DELETE", "/v1/conversations/{id}/branches/{name}", WRITE, branches.delete, response=NoneType),
    operation("POST", "/v1/projects", WRITE, projects.create, request=NewProject, response=ProjectObject),
    operation("GET", "/v1/projects", READ, projects.list_page, request=ListQuery, response=List[ProjectObject]),
    bare("GET", "/v1/projects/{id}", READ, projects.get, response=ProjectObject),
    operation("PATCH", "/v1/projects/{id}", WRITE, projects.update, request=ProjectChange, response=ProjectObject),
    bare("DELETE", "/v1/projects/{id}", WRITE, projects.delete, response=Deleted),
    operation(
        "GET", "/v1/conversations/{id}/export", READ, exports.conversation,
        request=ExportQuery, response=str, is_watched=True,
    ),
    operation(
        "GET", "/v1/users/me/export", READ, exports.account,
        request=ArchiveQuery, response=str, is_watched=True,
    ),
    upload("POST", "/v1/users/me/import", WRITE, imports.account, response=ImportObject),
    operation("GET", "/v1/search", READ, search.find, request=SearchQuery, response=HitList),
    operation(
        "GET", "/v1/events", READ, events.follow,
        request=EventQuery, response=EventObject, is_watched=True,
    ),
    *approval_routes.OPERATIONS,
    *model_routes.OPERATIONS,
    *provider_routes.OPERATIONS,
    *text_routes.OPERATIONS,
    *tool_routes.OPERATIONS,
    *media_routes.OPERATIONS,
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
    operation("GET", "/auth/api-keys", READ, api_keys.list_page, request=KeyQuery, response=List[ApiKeyObject]),
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
    operation(
        "POST", "/v1/conversations/{id}/share", WRITE, shares.create, request=ShareRequest, response=ShareObject
    ),
    bare("GET", "/v1/conversations/{id}/shares", READ, shares.list_of_conversation, response=ShareList),
    operation(
        "PATCH", "/v1/conversations/{id}/shares/{share_id}", WRITE, shares.retitle,
        request=ShareTitle, response=ShareObject,
    ),
    bare("DELETE", "/v1/conversations/{id}/shares/{share_id}", WRITE, shares.revoke, response=Deleted),
    operation("GET", "/v1/shares", READ, shares.list_all, request=ShareQuery, response=ShareList),
    operation("PATCH", "/v1/shares/{share_id}", WRITE, shares.retitle, request=ShareTitle, response=ShareObject),
    bare("DELETE", "/v1/shares/{share_id}", WRITE, shares.revoke, response=Deleted),
    # Whoever has the slug may look, and nobody is asked who they are.
    operation("GET", "/v1/public/shares/{slug}", PUBLIC, shares.look, request=ViewQuery, response=PublicShare),
    operation("GET", "/share/{slug}", PUBLIC, shares.look_at_page, request=ViewQuery, response=PublicShare),
    operation(
        "GET", "/v1/public/shares/{slug}/events", PUBLIC, shares.events,
        request=ViewQuery, response=ShareEvent, is_watched=True,
    ),
    operation(
        "POST", "/v1/public/shares/{slug}/feedback", PUBLIC, shares.rate, request=Feedback, response=FeedbackCounted
    ),
    bare("POST", "/v1/public/shares/{slug}/fork", WRITE, shares.fork, response=ConversationObject),
    operation("POST", "/v1/sessions", WRITE, sessions.create, request=NewSession, response=SessionObject),
    operation("GET", "/v1/sessions", READ, sessions.list_page, request=SessionQuery, response=SessionList),
    bare("GET", "/v1/sessions/{id}", READ, sessions.get, response=SessionObject),
    operation("PUT", "/v1/sessions/{id}", WRITE, sessions.update, request=SessionChange, response=SessionObject),
    bare("DELETE", "/v1/sessions/{id}", WRITE, sessions.close, response=SessionObject),
    bare("POST", "/v1/sessions/{id}/reset", WRITE, sessions.reset, response=SessionObject),
    operation("POST", "/v1/users/me/memories", WRITE, memories.add, request=NewMemory, response=MemoryObject),
    bare("GET", "/v1/users/me/memories", READ, memories.list_all, response=MemoryList),
    bare("DELETE", "/v1/users/me/memories/{id}", WRITE, memories.delete, response=Deleted),
    bare("GET", "/v1/users/me/settings", READ, settings.get, response=SettingsObject),
    operation(
        "PATCH", "/v1/users/me/settings", WRITE, settings.update,
        request=dict[str, object], response=SettingsObject,
    ),
    bare("GET", "/v1/users/me/settings/preferences", READ, settings.preferences, response=PreferencesObject),
    operation(
        "PATCH", "/v1/users/me/settings/preferences", WRITE, settings.update_preferences,
        request=PreferencesObject, response=PreferencesObject,
    ),
    operation("GET", "/v1/usage", READ, usage.own, request=UsageQuery, response=UsageList),
    bare("GET", "/v1/budgets", READ, usage.own_budgets, response=BudgetList),
    operation("GET", "/v1/admin/usage", ADMIN, usage.of_all, request=AllUsageQuery, response=UsageList),
    operation("GET", "/v1/admin/budgets", ADMIN, usage.all_budgets, request=BudgetQuery, response=BudgetList),
    operation(
        "PUT", "/v1/admin/budgets/{subject_id}/{period}", ADMIN, usage.put_budget,
        request=BudgetRequest, response=BudgetObject,
    ),
    bare(
        "DELETE", "/v1/admin/budgets/{subject_id}/{period}", ADMIN, usage.delete_budget, response=BudgetDeleted,
    ),
    *health.OPERATIONS,
)  # fmt: skip

# Where a body is read as it comes, and may be large.
STREAMED = tuple(one.path for one in OPERATIONS if one.request is bytes)

PREFIXES = {"v1": ("", "/llm", "/api/llm"), "auth": ("", "/llm")}

_CODES = {404: "not_found", 405: "method_not_allowed"}
_MESSAGES = {404: "There is nothing at this path", 405: "This path has no such method"}


def routes(services: Services) -> list[BaseRoute]:
    """All routes, at every address at which they answer, and the document that describes them."""
    describe = openapi.described(OPERATIONS, prefixes_of)
    reference = bare("GET", "/openapi.json", PUBLIC, describe, response=dict[str, object], is_counted=False)
    endpoints = [(path, Endpoint(services, found)) for path, found in _by_path([*OPERATIONS, reference]).items()]
    return [Route(prefix + path, endpoint) for path, endpoint in endpoints for prefix in prefixes_of(path)]


def exception_handlers() -> dict[object, ExceptionHandler]:
    """For `Starlette(exception_handlers=…)`: a path or method that nobody answers is refused in JSON too."""
    return {HTTPException: _refuse}


def _by_path(operations: Sequence[Operation]) -> dict[str, list[Operation]]:
    found = defaultdict(list)
    for one in operations:
        found[one.path].append(one)
    return found


def prefixes_of(path: str) -> Sequence[str]:
    """What may stand before a path."""
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
