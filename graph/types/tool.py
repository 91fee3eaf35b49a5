"""Tools that models may call, and the servers that have them."""

from datetime import datetime
from enum import Enum
from typing import TypeVar

import strawberry
from strawberry.scalars import JSON

from graph.relay import Node, given, or_absent
from graph.types.payload import UserError
from resolvers.conversations import ABSENT, Absent
from resolvers.errors import InvalidInput
from resolvers.tool_servers import Standing
from resolvers.tools import KnownTool, ToolChange

T = TypeVar("T")


@strawberry.type(description="A tool that a model may call in a run, when it is named in `GenerateOptions.tools`.")
class Tool(Node):
    name: str = strawberry.field(description="What models call it by.")
    title: str = strawberry.field(description="Name for people; may be empty.")
    description: str = strawberry.field(description="What it does, as models are told.")
    server: str = strawberry.field(description="Name of the server that has it.")
    parameters: JSON = strawberry.field(description="JSON Schema of its arguments.")
    tags: list[str] = strawberry.field(description="The kinds of thing that it does.")
    category: str | None = strawberry.field(description="A word of the administrators' to sort by.")
    is_enabled: bool = strawberry.field(description="Whether models may be offered it while its server can be reached.")
    needs_approval: bool = strawberry.field(description="Whether a person must allow each call.")

    @classmethod
    def from_known(cls, found: KnownTool) -> "Tool":
        row = found.row
        return cls(
            id=strawberry.ID(row.id),
            name=row.name,
            title=row.title,
            description=found.description,
            server=found.server,
            parameters=JSON(row.parameters),
            tags=list(found.tags),
            category=row.category,
            is_enabled=row.is_enabled,
            needs_approval=found.needs_approval,
        )


@strawberry.type(description="What may not go to a tool nor come from it, and what a person must allow.")
class ContentFilter:
    disallowed_keywords: list[str] = strawberry.field(
        description="Words that stop a call where they stand in its arguments, and keep its result back where they stand there. "
        "They are looked for as they are, without regard to case, width and the number of spaces."
    )
    require_approval_for: list[str] = strawberry.field(
        description="Kinds of calls that a person must allow: tags of the tool."
    )


@strawberry.type(description="A tool, with what administrators have decided about it.")
class ManagedTool:
    tool: Tool = strawberry.field(description="The tool itself.")
    reason: str | None = strawberry.field(description="Why it is as it is.")
    content_filter: ContentFilter = strawberry.field(description="What is kept from it and what needs leave.")
    require_approval: bool | None = strawberry.field(
        description="Whether a person must allow each call; null where the kinds of the content filter decide."
    )
    metadata: JSON = strawberry.field(description="Whatever else administrators keep with it.")
    is_available: bool = strawberry.field(description="Whether its server can be reached and its schema be used.")
    problem: str = strawberry.field(description="Why it cannot be used at all; empty when it can.")
    created_at: datetime = strawberry.field(description="When it was first found.")
    updated_at: datetime = strawberry.field(description="When it was last changed.")

    @classmethod
    def from_known(cls, found: KnownTool) -> "ManagedTool":
        row = found.row
        return cls(
            tool=Tool.from_known(found),
            reason=row.reason,
            content_filter=ContentFilter(
                disallowed_keywords=row.disallowed_keywords, require_approval_for=row.require_approval_for
            ),
            require_approval=row.require_approval,
            metadata=JSON(row.details),
            is_available=found.is_within_reach and not row.problem,
            problem=row.problem,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )


@strawberry.enum(description="How a server of tools stands, as the process that answers sees it.")
class ToolServerState(Enum):
    AVAILABLE = strawberry.enum_value("available", description="It answers.")
    CONNECTING = strawberry.enum_value("connecting", description="It has not answered yet.")
    DISABLED = strawberry.enum_value("disabled", description="It is switched off.")
    UNAVAILABLE = strawberry.enum_value(
        "unavailable", description="It cannot be reached; that is tried again and again."
    )


@strawberry.enum(description="How a server of tools is reached.")
class ToolTransport(Enum):
    BUILT_IN = strawberry.enum_value("built_in", description="Part of this server.")
    HTTP = strawberry.enum_value("http", description="By MCP's streamable HTTP.")
    STDIO = strawberry.enum_value("stdio", description="A process of this server's, by its pipes.")


@strawberry.type(description="A server of tools.")
class ToolServer:
    id: strawberry.ID = strawberry.field(description="Its ID.")
    name: str = strawberry.field(description="Its name.")
    transport: ToolTransport = strawberry.field(description="How it is reached.")
    url: str = strawberry.field(
        description="Its address; only where it is, for one of the operator's settings; empty for a process."
    )
    header_names: list[str] = strawberry.field(
        description="Names of the headers that it is sent; what they say is not shown."
    )
    tags: list[str] = strawberry.field(description="Tags of all its tools.")
    is_configured: bool = strawberry.field(description="Whether it stands in the operator's settings.")
    is_enabled: bool = strawberry.field(description="Whether it is switched on.")
    state: ToolServerState = strawberry.field(description="How it stands.")
    problem: str = strawberry.field(description="Why it cannot be used; empty when it can.")
    created_at: datetime = strawberry.field(description="When it became known.")
    updated_at: datetime = strawberry.field(description="When it was last changed.")

    @classmethod
    def from_standing(cls, found: Standing) -> "ToolServer":
        row = found.row
        return cls(
            id=strawberry.ID(row.id),
            name=row.name,
            transport=ToolTransport(row.transport),
            url=row.url,
            header_names=row.header_names,
            tags=row.tags,
            is_configured=row.is_configured,
            is_enabled=row.is_enabled,
            state=ToolServerState(found.state.value),
            problem=found.problem,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )


@strawberry.input(description="What to change of a content filter; what is left out stays.")
class ContentFilterInput:
    disallowed_keywords: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="All words, in the place of those before."
    )
    require_approval_for: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="All kinds of calls, in the place of those before."
    )


@strawberry.input(description="What to change of a tool; what is left out stays.")
class UpdateToolInput:
    id: strawberry.ID = strawberry.field(description="The tool: its ID, or its name.")
    is_enabled: bool | None = strawberry.field(
        default=strawberry.UNSET, description="Whether models may be offered it."
    )
    reason: str | None = strawberry.field(default=strawberry.UNSET, description="Why.")
    content_filter: ContentFilterInput | None = strawberry.field(
        default=strawberry.UNSET, description="What is kept from it and what needs leave."
    )
    require_approval: bool | None = strawberry.field(
        default=strawberry.UNSET,
        description="Whether a person must allow each call; null for the kinds of the content filter to decide.",
    )
    description: str | None = strawberry.field(
        default=strawberry.UNSET, description="What models shall be told of it; null for what its server says."
    )
    category: str | None = strawberry.field(default=strawberry.UNSET, description="A word to sort by.")
    tags: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="Tags beside those that its server gives it."
    )
    metadata: JSON | None = strawberry.field(
        default=strawberry.UNSET, description="In the place of what was kept before."
    )

    def change(self) -> ToolChange:
        inner = given(self.content_filter) or ContentFilterInput()
        return ToolChange(
            is_enabled=kept(self.is_enabled),
            reason=or_absent(self.reason),
            own_description=or_absent(self.description),
            category=or_absent(self.category),
            tags=kept(self.tags),
            disallowed_keywords=kept(inner.disallowed_keywords),
            require_approval=or_absent(self.require_approval),
            require_approval_for=kept(inner.require_approval_for),
            metadata=kept(self.metadata),
        )


@strawberry.input(description="A header to send with every request.")
class ToolHeaderInput:
    name: str = strawberry.field(description="Its name.")
    value: str = strawberry.field(description="What it says; it is sealed and never shown.")


@strawberry.input(description="A server of tools to add: one of MCP's streamable HTTP at a public address.")
class AddToolServerInput:
    name: str = strawberry.field(description="1 to 32 letters, digits, _ or -; nobody else's.")
    url: str = strawberry.field(description="Its address.")
    headers: list[ToolHeaderInput] | None = strawberry.field(
        default=strawberry.UNSET, description="What it is sent with every request."
    )
    tags: list[str] | None = strawberry.field(default=strawberry.UNSET, description="Tags for all its tools.")


@strawberry.input(description="What to change of a server of tools; what is left out stays.")
class UpdateToolServerInput:
    id: strawberry.ID = strawberry.field(description="The server.")
    url: str | None = strawberry.field(
        default=strawberry.UNSET, description="Another address; headers must be given again with it."
    )
    headers: list[ToolHeaderInput] | None = strawberry.field(
        default=strawberry.UNSET, description="All headers, in the place of those before."
    )
    tags: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="All tags, in the place of those before."
    )
    is_enabled: bool | None = strawberry.field(default=strawberry.UNSET, description="Whether it is switched on.")


@strawberry.input(description="A server of tools.")
class ToolServerInput:
    id: strawberry.ID = strawberry.field(description="The server.")


@strawberry.type(description="What changing a tool gives.")
class UpdateToolPayload:
    tool: ManagedTool | None = strawberry.field(default=None, description="The tool as it is now.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")


@strawberry.type(description="What changing a server of tools gives.")
class ToolServerPayload:
    tool_server: ToolServer | None = strawberry.field(default=None, description="The server as it is, or was.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")


def kept(value: T | None) -> T | Absent:
    """ABSENT for what a client left out, or gave as nothing where nothing means nothing."""
    return ABSENT if value is strawberry.UNSET or value is None else value


def headers(found: list[ToolHeaderInput]) -> dict[str, str]:
    """Raises InvalidInput for a name that is given twice."""
    made = {one.name: one.value for one in found}
    if len({name.lower() for name in made}) != len(found):
        raise InvalidInput("A header is given twice", field="headers")
    return made
