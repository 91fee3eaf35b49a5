"""Embeddings, as a field of the roots: a mutation, because it is billed as a run of a model is."""

import strawberry

from graph.relay import Info, Input, given, resolved
from graph.types.embedding import CreateEmbeddingsInput, CreateEmbeddingsPayload
from graph.types.payload import mendable
from resolvers import texts


@strawberry.type
class EmbeddingMutations:
    @resolved("Makes vectors of texts. Nothing is kept but the bill.")
    @mendable(CreateEmbeddingsPayload)
    async def create_embeddings(self, info: Info, input: Input[CreateEmbeddingsInput]) -> CreateEmbeddingsPayload:
        dimensions = given(input.dimensions)
        options = {} if dimensions is None else {"dimensions": dimensions}
        return CreateEmbeddingsPayload.from_embedded(
            await texts.embed(info.context.call, given(input.model), input.texts, options)
        )
