"""Where the operations on conversations, their items, branches and projects take ids: for the matrix of test_tenants."""

from __future__ import annotations

from collections.abc import Mapping

Place = tuple[str, str]

CONVERSATION = frozenset({"conversation"})
ITEM = frozenset({"item"})
PROJECT = frozenset({"project"})
GENERATION = frozenset({"generation"})
# What else the operation needs is made up, so that nobody gets as far as this id.
OUT_OF_REACH: frozenset[str] = frozenset()

_ITEM_ROUTES = (
    ("GET", ""),
    ("PATCH", ""),
    ("POST", "/edit"),
    ("POST", "/regenerate"),
    ("POST", "/rating"),
    ("DELETE", ""),
)
_ITEMS = [
    f"{method} /v1/conversations/{{id}}/{noun}/{{item_id}}{rest}"
    for noun in ("items", "messages")
    for method, rest in _ITEM_ROUTES
]
_BRANCH = "/v1/conversations/{id}/branches/{name}"

# Which kinds of things their owner gets another answer for. What deletes comes last.
OWNERS: Mapping[Place, frozenset[str]] = {
    ("Query.conversations", "filter.projectId"): PROJECT,
    ("Query.branchDiff", "conversationId"): OUT_OF_REACH,
    ("Query.project", "id"): PROJECT,
    ("Query.projects", "after"): frozenset({"project_cursor"}),
    ("Subscription.compare", "ids"): GENERATION,
    ("Mutation.createConversation", "input.projectId"): PROJECT,
    ("Mutation.updateConversation", "input.id"): CONVERSATION,
    ("Mutation.updateConversation", "input.projectId"): OUT_OF_REACH,
    ("Mutation.createBranch", "input.conversationId"): CONVERSATION,
    ("Mutation.createBranch", "input.fromItem"): OUT_OF_REACH,
    ("Mutation.activateBranch", "input.conversationId"): CONVERSATION,
    ("Mutation.deleteBranch", "input.conversationId"): CONVERSATION,
    ("Mutation.compareModels", "input.conversationId"): OUT_OF_REACH,
    ("Mutation.keepMessage", "input.messageId"): ITEM,
    ("Mutation.rateMessage", "input.messageId"): ITEM,
    ("Mutation.rewriteMessage", "input.messageId"): ITEM,
    ("Mutation.editMessage", "input.messageId"): ITEM,
    ("Mutation.regenerateMessage", "input.messageId"): ITEM,
    ("Mutation.deleteMessage", "input.messageId"): ITEM,
    ("Mutation.updateProject", "input.id"): PROJECT,
    ("POST /v1/conversations", "project_id"): PROJECT,
    ("GET /v1/conversations", "project_id"): PROJECT,
    ("PATCH /v1/conversations/{id}", "{id}"): CONVERSATION,
    ("PATCH /v1/conversations/{id}", "project_id"): PROJECT,
    ("POST /v1/conversations/{id}", "{id}"): CONVERSATION,
    ("POST /v1/conversations/{id}", "project_id"): PROJECT,
    **{(name, "{id}"): OUT_OF_REACH for name in _ITEMS},
    **{(name, "{item_id}"): ITEM for name in _ITEMS},
    ("GET /v1/conversations/{id}/branches", "{id}"): CONVERSATION,
    ("POST /v1/conversations/{id}/branches", "{id}"): CONVERSATION,
    ("POST /v1/conversations/{id}/branches", "fork_from_item_id"): ITEM,
    (f"GET {_BRANCH}", "{id}"): CONVERSATION,
    (f"POST {_BRANCH}/activate", "{id}"): CONVERSATION,
    (f"DELETE {_BRANCH}", "{id}"): CONVERSATION,
    ("GET /v1/projects", "after"): PROJECT,
    ("GET /v1/projects", "cursor"): PROJECT,
    ("GET /v1/projects/{id}", "{id}"): PROJECT,
    ("PATCH /v1/projects/{id}", "{id}"): PROJECT,
    ("DELETE /v1/projects/{id}", "{id}"): PROJECT,
    ("Mutation.deleteProject", "input.id"): PROJECT,
    ("POST /v1/conversations/bulk-delete", "conversation_ids"): CONVERSATION,
    ("DELETE /v1/conversations/{id}", "{id}"): CONVERSATION,
    ("Mutation.deleteConversations", "input.ids"): CONVERSATION,
}
# Names and numbers, which mean something only beside an id.
NAMES: tuple[Place, ...] = (
    ("Subscription.compare", "after"),
    (f"GET {_BRANCH}", "{name}"),
    (f"POST {_BRANCH}/activate", "{name}"),
    (f"DELETE {_BRANCH}", "{name}"),
)
# After them, what they were asked for is gone.
DELETIONS: frozenset[Place] = frozenset(
    place for place in OWNERS if "deleteProject" in place[0] or "deleteConversations" in place[0]
) | {
    ("DELETE /v1/projects/{id}", "{id}"),
    ("DELETE /v1/conversations/{id}", "{id}"),
    ("POST /v1/conversations/bulk-delete", "conversation_ids"),
}
BODIES: Mapping[str, dict[str, object]] = {
    "PATCH /v1/conversations/{id}": {"title": "I was here"},
    "POST /v1/conversations/{id}": {"title": "I was here"},
    "POST /v1/conversations/{id}/branches": {"name": "mine"},
    "PATCH /v1/projects/{id}": {"instruction": "I was here"},
    **{name: {"content": "I was here"} for name in _ITEMS if name.startswith("PATCH") or name.endswith("/edit")},
    **{name: {"rating": "like"} for name in _ITEMS if name.endswith("/rating")},
}
