"""Files for messages, as fields of the roots."""

import strawberry

from graph.relay import Id, Info, Input, given, resolved, shaped
from graph.types.media import CreateMediaInput, CreateMediaPayload, DeleteMediaInput, DeleteMediaPayload, Media
from graph.types.payload import mendable
from resolvers import media


@strawberry.type
class MediaFields:
    @resolved("One file; null when it is missing or belongs to somebody else.")
    async def media(self, info: Info, id: Id) -> Media | None:
        return shaped(Media.from_row, await info.context.loaders.media.load(id))


@strawberry.type
class MediaMutations:
    @resolved("Keeps a file: a picture, a sound or a PDF, told by what is in it.")
    @mendable(CreateMediaPayload)
    async def create_media(self, info: Info, input: Input[CreateMediaInput]) -> CreateMediaPayload:
        call, source = info.context.call, input.source
        if source.remote_url is not None:
            content = await media.fetched(call, source.remote_url.value)
        else:
            assert source.data_url is not None, "@oneOf lets exactly one through"
            content = media.decoded(call, source.data_url.value)
        brought = await media.bring(call, content, given(input.name))
        return CreateMediaPayload(media=Media.from_row(brought.row), is_known=brought.is_known)

    @resolved("Removes a file.")
    @mendable(DeleteMediaPayload)
    async def delete_media(self, info: Info, input: Input[DeleteMediaInput]) -> DeleteMediaPayload:
        await media.remove(info.context.call, input.id)
        info.context.loaders.forget()
        return DeleteMediaPayload(deleted_id=input.id)
