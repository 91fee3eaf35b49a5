"""Files for messages."""

from datetime import datetime

import strawberry

from db import models
from graph.relay import Info, Node, resolved
from graph.types.payload import UserError
from resolvers import media


@strawberry.type(description="A file that messages may name by its ID.")
class Media(Node):
    mime: str = strawberry.field(description="What was found in it, e.g. `image/png`.")
    size: int = strawberry.field(description="Bytes.")
    name: str | None = strawberry.field(description="What its owner called it.")
    created_at: datetime = strawberry.field(description="When it came.")

    @resolved("A link to it on this server, without the host: for an hour it opens to anybody who has it.")
    def url(self, info: Info) -> str:
        return media.path(info.context.call, self.id)

    @classmethod
    def from_row(cls, row: models.Media) -> "Media":
        return cls(id=strawberry.ID(row.id), mime=row.mime, size=row.size, name=row.name, created_at=row.created_at)


@strawberry.input(one_of=True, description="Where a file comes from, in exactly one of these ways.")
class MediaSource:
    data_url: strawberry.Maybe[str] = strawberry.field(description="A data URL in base64, or base64 alone.")
    remote_url: strawberry.Maybe[str] = strawberry.field(description="A public address, from which it is fetched once.")


@strawberry.input(description="A file to keep.")
class CreateMediaInput:
    source: MediaSource = strawberry.field(description="Where it comes from.")
    name: str | None = strawberry.field(
        default=strawberry.UNSET, description="What to call it: at most 255 characters."
    )


@strawberry.type(description="A file that is kept.")
class CreateMediaPayload:
    media: Media | None = strawberry.field(default=None, description="The file.")
    is_known: bool = strawberry.field(default=False, description="Whether the same file was kept already.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")


@strawberry.input(description="Which file to remove.")
class DeleteMediaInput:
    id: strawberry.ID = strawberry.field(description="ID of the file.")


@strawberry.type(description="A file that was removed. Messages that name it stay.")
class DeleteMediaPayload:
    deleted_id: strawberry.ID | None = strawberry.field(default=None, description="ID of the file.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")
