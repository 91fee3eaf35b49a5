"""Every read, in one list: each field reads its arguments, asks one resolver and shapes the answer."""

import asyncio
from typing import Annotated

import strawberry

from graph.context import Context
from graph.fields.approvals import ApprovalFields
from graph.fields.edits import BranchFields
from graph.fields.export import ExportFields
from graph.fields.lifecycle import LifecycleFields
from graph.fields.media import MediaFields
from graph.fields.models import ModelFields
from graph.fields.projects import ProjectFields
from graph.fields.search import SearchFields
from graph.fields.shares import ShareFields
from graph.fields.tools import ToolFields
from graph.fields.usage import UsageFields
from graph.relay import (
    After,
    Before,
    First,
    Id,
    Info,
    Last,
    Node,
    edges,
    given,
    page_info,
    resolved,
    shaped,
)
from graph.types import catalog as models
from graph.types.account import User
from graph.types.admin import AdminQuery
from graph.types.approval import Approval
from graph.types.catalog import Model
from graph.types.conversation import (
    Conversation,
    ConversationConnection,
    ConversationFilter,
    ConversationOrder,
    ConversationOrderField,
    OrderDirection,
    item,
)
from graph.types.generation import Generation
from graph.types.key import ApiKey, ProviderKey
from graph.types.media import Media
from graph.types.project import Project
from graph.types.server import RateLimit, ServerInfo
from graph.types.share import Share
from graph.types.tool import Tool
from resolvers import accounts, catalog, conversations, health, identity, tools
from resolvers.access import READ, require
from resolvers.errors import InvalidInput
from resolvers.paging import Window

MOST_IDS = 100
NEWEST = ConversationOrder(field=ConversationOrderField.UPDATED_AT, direction=OrderDirection.DESC)


@strawberry.type(description="All that can be read.")
class Query(
    SearchFields,
    ExportFields,
    ShareFields,
    BranchFields,
    ProjectFields,
    UsageFields,
    ModelFields,
    LifecycleFields,
    ToolFields,
    MediaFields,
    ApprovalFields,
):
    @resolved("The user who is signed in; null when nobody is.")
    async def viewer(self, info: Info) -> User | None:
        return shaped(User.from_row, await identity.viewer(info.context.call))

    @resolved("Administration; null for everybody but administrators.")
    def admin(self, info: Info) -> AdminQuery | None:
        return AdminQuery() if accounts.administers(info.context.call) else None

    @resolved("Anything by its ID; null when it is missing or belongs to somebody else.")
    async def node(self, info: Info, id: Id) -> Node | None:
        require(info.context.call, READ)
        return await _node(info.context, id)

    @resolved("Many things by their IDs, in the same order; null where one is missing or belongs to somebody else.")
    async def nodes(
        self,
        info: Info,
        ids: Annotated[list[strawberry.ID], strawberry.argument(description="Their IDs: at most 100.")],
    ) -> list[Node | None]:
        require(info.context.call, READ)
        if len(ids) > MOST_IDS:
            raise InvalidInput(f"At most {MOST_IDS} IDs at once", field="ids")
        return await asyncio.gather(*(_node(info.context, id) for id in ids))

    @resolved("The viewer's conversations.")
    async def conversations(
        self,
        info: Info,
        first: First = strawberry.UNSET,
        after: After = strawberry.UNSET,
        last: Last = strawberry.UNSET,
        before: Before = strawberry.UNSET,
        filter: Annotated[
            ConversationFilter | None, strawberry.argument(description="Which of them; those not put away by default.")
        ] = strawberry.UNSET,
        order_by: Annotated[
            ConversationOrder | None,
            strawberry.argument(description="Their order; the latest change first by default."),
        ] = NEWEST,
    ) -> ConversationConnection:
        window = Window.make(given(first), given(after), given(last), given(before))
        wanted = given(filter) or ConversationFilter()
        page = await conversations.page(
            info.context.call,
            window,
            sort=(order_by or NEWEST).sort(),
            wanted=wanted.wanted(),
        )
        return ConversationConnection(
            edges=edges(page, Conversation.from_row), page_info=page_info(page), filter=wanted
        )

    @resolved("One conversation; null when it is missing or belongs to somebody else.")
    async def conversation(self, info: Info, id: Id) -> Conversation | None:
        return shaped(Conversation.from_row, await info.context.loaders.conversations.load(id))

    @resolved("One run of a model; null when it is missing or belongs to somebody else.")
    async def generation(self, info: Info, id: Id) -> Generation | None:
        return shaped(Generation.from_row, await info.context.loaders.generations.load(id))

    @resolved("How much the caller may still ask for; null when there is no limit.")
    def rate_limit(self, info: Info) -> RateLimit | None:
        return shaped(RateLimit.from_standing, info.context.call.standing)

    @resolved("This server.")
    def server(self, info: Info) -> ServerInfo:
        return ServerInfo(version=health.version())


async def _node(context: Context, id: str) -> Node | None:  # noqa: C901 - one line a kind
    """Whatever has this ID, found by its prefix. The caller may read."""
    loaders = context.loaders
    match id.partition("_")[0]:
        case "conv":
            return shaped(Conversation.from_row, await loaders.conversations.load(id))
        case "msg" | "call":
            return shaped(item, await loaders.items.load(id))
        case "gen":
            return shaped(Generation.from_row, await loaders.generations.load(id))
        case "appr":
            return shaped(Approval.from_row, await loaders.approvals.load(id))
        case "user":
            user = await identity.viewer(context.call)
            return User.from_row(user) if user is not None and user.id == id else None
        case "proj":
            return shaped(Project.from_row, await loaders.projects.load(id))
        case "key":
            return shaped(ApiKey.from_row, await loaders.api_keys.load(id))
        case "shr":
            return shaped(Share.from_row, await loaders.shares.load(id))
        case "tool":
            return shaped(Tool.from_known, tools.offered_tool(context.call, id))
        case "jan":
            return shaped(Media.from_row, await loaders.media.load(id))
        case "pkey":
            return shaped(ProviderKey.from_row, await loaders.provider_keys.load(id))
        case "model":
            return shaped(Model.from_entry, catalog.model(context.call, id.removeprefix(models.PREFIX)))
        case _:
            return None
