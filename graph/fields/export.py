"""Exporting, as a field of the query."""

from enum import Enum
from typing import Annotated

import strawberry

from graph.relay import Id, Info, resolved
from resolvers import exports
from resolvers.errors import NotFound
from resolvers.exports import Format


@strawberry.enum(description="How a conversation is written.")
class ExportFormat(Enum):
    MARKDOWN = strawberry.enum_value("markdown", description="Its active branch, to read.")
    JSON = strawberry.enum_value("json", description="All of it, with its branches; it can be imported again.")
    OPENAI = strawberry.enum_value("openai", description="Its active branch, as messages in the chat format.")


@strawberry.type
class ExportFields:
    @resolved(
        "A conversation in one text; null when it is missing or belongs to somebody else. Those beyond 5,000,000 bytes "
        "are to be had from REST."
    )
    async def export_conversation(
        self,
        info: Info,
        id: Id,
        format: Annotated[ExportFormat, strawberry.argument(description="How it is written.")] = ExportFormat.MARKDOWN,
    ) -> str | None:
        try:
            return await exports.text(info.context.call, id, Format[format.name])
        except NotFound:
            return None
