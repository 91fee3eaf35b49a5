"""Where operations take the ids of files, for the tests of tenants."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping

DOT = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
_KINDS = ("media", "conversation", "item", "user")

SAMPLES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("GET /media/v1/media/{id}", "{id}"): _KINDS,
    ("GET /media/v1/media/{id}/presign", "{id}"): _KINDS,
    ("GET /api/media/{id}", "{id}"): _KINDS,
    ("Query.media", "id"): _KINDS,
    **{
        (f"Mutation.{name}", "input.content.mediaId"): _KINDS
        for name in ("sendMessage", "editMessage", "rewriteMessage", "compareModels", "generate")
    },
    # It is read and of no effect: a file is always that of whoever brings it.
    ("POST /media/v1/media", "user_id"): (),
    ("POST /media/v1/media/prepare-upload", "user_id"): (),
    # A secret, not an id.
    ("PUT /media/v1/media/uploads/{ticket}", "{ticket}"): (),
    ("Mutation.deleteMedia", "input.id"): _KINDS,
    ("DELETE /media/v1/media/{id}", "{id}"): _KINDS,
}
DELETIONS = frozenset({("Mutation.deleteMedia", "input.id"), ("DELETE /media/v1/media/{id}", "{id}")})
OWNERS: Mapping[tuple[str, str], frozenset[str]] = {
    # To compare, more than one model has to be named first.
    place: frozenset({"media"} if place[0] != "Mutation.compareModels" else ())
    for place, kinds in SAMPLES.items()
    if kinds
}


def another() -> bytes:
    """A file as there is no other."""
    return base64.b64decode(DOT.partition(",")[2]) + os.urandom(8)
