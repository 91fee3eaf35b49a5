"""Manifests of persisted documents, as build tools write them: which document an id stands for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

FORMAT = "apollo-persisted-query-manifest"


class ManifestError(Exception):
    """A sentence about what is wrong with a manifest, or with a document in it."""


class _Operation(msgspec.Struct, frozen=True):
    id: str
    body: str


class _Apollo(msgspec.Struct, frozen=True):
    """What `@apollo/generate-persisted-query-manifest` writes."""

    operations: list[_Operation]


def read(path: Path) -> Mapping[str, str]:
    """Documents by their ids, from `{"<id>": "<document>"}`, which GraphQL Code Generator and Relay write, or from Apollo's form.

    Raises ManifestError.
    """
    try:
        content = msgspec.json.decode(path.read_bytes())
        if isinstance(content, dict) and content.get("format") == FORMAT:
            return {one.id: one.body for one in msgspec.convert(content, _Apollo).operations}
        return msgspec.convert(content, dict[str, str])
    except OSError as error:
        raise ManifestError(f"{path} cannot be read ({type(error).__name__})") from error
    except msgspec.MsgspecError as error:
        raise ManifestError(f"{path} is no manifest of persisted documents: {error}") from error
