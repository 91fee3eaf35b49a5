"""Tools and their servers, as fields of the roots."""

import strawberry

from graph.relay import After, Connection, First, Info, Input, connection, given, resolved
from graph.types.payload import mendable
from graph.types.tool import (
    AddToolServerInput,
    ManagedTool,
    Tool,
    ToolServer,
    ToolServerInput,
    ToolServerPayload,
    UpdateToolInput,
    UpdateToolPayload,
    UpdateToolServerInput,
    headers,
    kept,
)
from resolvers import tool_servers, tools
from resolvers.conversations import ABSENT
from resolvers.paging import Window


@strawberry.type
class ToolFields:
    @resolved("The tools that models may be offered now, in the order of their finding.")
    def tools(self, info: Info, first: First = strawberry.UNSET, after: After = strawberry.UNSET) -> Connection[Tool]:
        window = Window.make(given(first), given(after), None, None)
        return connection(tools.page(info.context.call, window), Tool.from_known)


@strawberry.type
class ToolAdministration:
    @resolved("All tools that servers have, in the order of their finding.")
    def tools(
        self, info: Info, first: First = strawberry.UNSET, after: After = strawberry.UNSET
    ) -> Connection[ManagedTool]:
        window = Window.make(given(first), given(after), None, None)
        return connection(tools.whole_page(info.context.call, window), ManagedTool.from_known)

    @resolved("All servers of tools, in the order of their making.")
    def tool_servers(self, info: Info) -> list[ToolServer]:
        return [ToolServer.from_standing(one) for one in tool_servers.listing(info.context.call)]


@strawberry.type
class ToolMutations:
    @resolved("Changes what holds for a tool, in all processes. For administrators.")
    @mendable(UpdateToolPayload)
    async def update_tool(self, info: Info, input: Input[UpdateToolInput]) -> UpdateToolPayload:
        found = await tools.change(info.context.call, input.id, input.change())
        return UpdateToolPayload(tool=ManagedTool.from_known(found))

    @resolved("Adds a server of tools and asks it for them. For administrators.")
    @mendable(ToolServerPayload)
    async def add_tool_server(self, info: Info, input: Input[AddToolServerInput]) -> ToolServerPayload:
        sent, tags = headers(given(input.headers) or []), given(input.tags) or []
        return _payload(await tool_servers.add(info.context.call, input.name, input.url, sent, tags))

    @resolved("Changes a server of tools and asks it for them. For administrators.")
    @mendable(ToolServerPayload)
    async def update_tool_server(self, info: Info, input: Input[UpdateToolServerInput]) -> ToolServerPayload:
        sent = given(input.headers)
        found = await tool_servers.update(
            info.context.call,
            input.id,
            url=kept(input.url),
            headers=ABSENT if sent is None else headers(sent),
            tags=kept(input.tags),
            is_enabled=kept(input.is_enabled),
        )
        return _payload(found)

    @resolved("Deletes a server of tools with its tools and all that was decided about them. For administrators.")
    @mendable(ToolServerPayload)
    async def delete_tool_server(self, info: Info, input: Input[ToolServerInput]) -> ToolServerPayload:
        return _payload(await tool_servers.remove(info.context.call, input.id))

    @resolved("Asks a server for its tools now. For administrators.")
    @mendable(ToolServerPayload)
    async def refresh_tool_server(self, info: Info, input: Input[ToolServerInput]) -> ToolServerPayload:
        return _payload(await tool_servers.refresh(info.context.call, input.id))


def _payload(found: tool_servers.Standing) -> ToolServerPayload:
    return ToolServerPayload(tool_server=ToolServer.from_standing(found))
