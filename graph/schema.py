"""The whole graph. Nothing of it is reachable that does not name its scope here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import strawberry
from strawberry.schema.config import StrawberryConfig

from graph.mutation import Mutation
from graph.query import Query
from graph.relay import SCALARS
from graph.subscription import Subscription
from graph.types import conversation, event, feed, payload
from resolvers.access import ADMIN, KEYS_WRITE, PROVIDERS_WRITE, PUBLIC, READ, SCOPES, WRITE

# What a caller must hold to use a root field. The resolvers enforce it; a test holds the two together.
FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "Query.viewer": PUBLIC,
        "Query.admin": PUBLIC,
        "Query.node": READ,
        "Query.nodes": READ,
        "Query.conversations": READ,
        "Query.conversation": READ,
        "Query.branchDiff": READ,
        "Query.projects": READ,
        "Query.project": READ,
        "Query.generation": READ,
        "Query.search": READ,
        "Query.usage": READ,
        "Query.exportConversation": READ,
        "Query.shares": READ,
        "Query.sharedConversation": PUBLIC,
        "Query.media": READ,
        "Query.models": PUBLIC,
        "Query.model": PUBLIC,
        "Query.providers": READ,
        "Query.loadedModels": READ,
        "Query.tools": READ,
        "Query.rateLimit": PUBLIC,
        "Query.server": PUBLIC,
        "Mutation.guestLogin": PUBLIC,
        "Mutation.register": PUBLIC,
        "Mutation.login": PUBLIC,
        "Mutation.upgradeGuest": WRITE,
        "Mutation.refreshToken": PUBLIC,
        "Mutation.revokeToken": PUBLIC,
        "Mutation.logout": PUBLIC,
        "Mutation.updateProfile": WRITE,
        "Mutation.setUserRole": ADMIN,
        "Mutation.createConversation": WRITE,
        "Mutation.updateConversation": WRITE,
        "Mutation.deleteConversations": WRITE,
        "Mutation.sendMessage": WRITE,
        "Mutation.editMessage": WRITE,
        "Mutation.rewriteMessage": WRITE,
        "Mutation.regenerateMessage": WRITE,
        "Mutation.deleteMessage": WRITE,
        "Mutation.rateMessage": WRITE,
        "Mutation.createBranch": WRITE,
        "Mutation.activateBranch": WRITE,
        "Mutation.deleteBranch": WRITE,
        "Mutation.compareModels": WRITE,
        "Mutation.keepMessage": WRITE,
        "Mutation.createProject": WRITE,
        "Mutation.updateProject": WRITE,
        "Mutation.deleteProject": WRITE,
        "Mutation.generate": WRITE,
        "Mutation.createMedia": WRITE,
        "Mutation.deleteMedia": WRITE,
        "Mutation.createEmbeddings": WRITE,
        "Mutation.cancelGeneration": WRITE,
        "Mutation.decideApproval": WRITE,
        "Query.approvals": READ,
        "Mutation.stopGeneration": ADMIN,
        "Mutation.createProvider": ADMIN,
        "Mutation.updateProvider": ADMIN,
        "Mutation.deleteProvider": ADMIN,
        "Mutation.refreshProvider": ADMIN,
        "Mutation.testProvider": ADMIN,
        "Mutation.updateProviderModel": ADMIN,
        "Mutation.setModelsEnabled": ADMIN,
        "Mutation.updateCatalogModel": ADMIN,
        "Mutation.setCatalogModelsEnabled": ADMIN,
        "Mutation.updateTool": ADMIN,
        "Mutation.addToolServer": ADMIN,
        "Mutation.updateToolServer": ADMIN,
        "Mutation.deleteToolServer": ADMIN,
        "Mutation.refreshToolServer": ADMIN,
        "Mutation.setBudget": ADMIN,
        "Mutation.deleteBudget": ADMIN,
        "Mutation.setApiKeyBudget": KEYS_WRITE,
        "Mutation.deleteApiKeyBudget": KEYS_WRITE,
        "Mutation.loadModel": WRITE,
        "Mutation.unloadModel": WRITE,
        "Mutation.pinModel": ADMIN,
        "Mutation.createApiKey": KEYS_WRITE,
        "Mutation.revokeApiKey": KEYS_WRITE,
        "Mutation.setProviderKey": PROVIDERS_WRITE,
        "Mutation.deleteProviderKey": PROVIDERS_WRITE,
        "Mutation.shareConversation": WRITE,
        "Mutation.updateShare": WRITE,
        "Mutation.revokeShare": WRITE,
        "Mutation.forkShare": WRITE,
        "Mutation.rateShare": PUBLIC,
        "Mutation.updateSettings": WRITE,
        "Mutation.addMemory": WRITE,
        "Mutation.deleteMemory": WRITE,
        "Subscription.sharedGeneration": PUBLIC,
        "Subscription.generation": READ,
        "Subscription.approvals": READ,
        "Subscription.compare": READ,
        "Subscription.activeGenerations": ADMIN,
        "Subscription.modelStatus": READ,
        "Subscription.conversationEvents": READ,
    }
)
# Types that no field names, because an interface stands for them.
HIDDEN = (
    conversation.Message,
    conversation.ToolCall,
    event.GenerationStarted,
    event.GenerationRerouted,
    event.GenerationSnapshot,
    event.TextDelta,
    event.ReasoningDelta,
    event.ToolCallDelta,
    event.ToolCallFinished,
    event.ApprovalRequested,
    event.ApprovalDecided,
    event.GenerationCompleted,
    event.GenerationIncomplete,
    event.GenerationFailed,
    event.GenerationCancelled,
    feed.ConversationUpserted,
    feed.ConversationDeleted,
    feed.ItemUpserted,
    feed.ItemDeleted,
    feed.GenerationChanged,
    payload.ValidationError,
    payload.NotFoundError,
    payload.ConflictError,
)


def build_schema(scopes: Mapping[str, str] = FIELDS) -> strawberry.Schema:
    """Raises ValueError when a root field names no scope, or a scope is given to what is not there."""
    schema = strawberry.Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        types=HIDDEN,
        config=StrawberryConfig(scalar_map={**SCALARS}),
    )
    found = {f"{root}.{name}" for root, name in root_fields(schema)}
    wrong = (found ^ scopes.keys()) | {field for field, scope in scopes.items() if scope not in SCOPES}
    if wrong:
        raise ValueError(f"root fields and their scopes differ: {', '.join(sorted(wrong))}")
    return schema


def root_fields(schema: strawberry.Schema) -> list[tuple[str, str]]:
    """Each field of Query, Mutation and Subscription."""
    core = schema._schema  # noqa: SLF001 - Strawberry gives no other way to what graphql-core executes
    roots = (core.query_type, core.mutation_type, core.subscription_type)
    return [(root.name, field) for root in roots if root is not None for field in root.fields]


def sdl() -> str:
    """The schema in GraphQL's own language: what schema.graphql holds."""
    return build_schema().as_str() + "\n"
