"""The routes of texts without roles."""

from __future__ import annotations

from resolvers.access import WRITE
from rest_compat import embeddings, texts
from rest_compat.embeddings import EmbeddingList
from rest_compat.endpoint import operation
from rest_compat.texts import TextCompletion

OPERATIONS = (
    operation(
        "POST", "/v1/embeddings", WRITE, embeddings.embed,
        request=dict[str, object], response=EmbeddingList, is_watched=True,
    ),
    operation(
        "POST", "/v1/completions", WRITE, texts.complete,
        request=dict[str, object], response=TextCompletion, is_watched=True,
    ),
)  # fmt: skip
