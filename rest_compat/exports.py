"""Conversations and whole accounts, to take along."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from resolvers import exports
from resolvers.exports import Format
from rest_compat.endpoint import Ask, Download

_KINDS: Mapping[Format, tuple[bytes, str]] = {
    Format.MARKDOWN: (b"text/markdown; charset=utf-8", "md"),
    Format.JSON: (b"application/json", "json"),
    Format.OPENAI: (b"application/json", "openai.json"),
}
NDJSON = b"application/x-ndjson"


class ExportQuery(msgspec.Struct, frozen=True):
    format: Format = Format.MARKDOWN


class ArchiveQuery(msgspec.Struct, frozen=True):
    """`after` is the id of the last whole line of an archive that was broken off."""

    after: str | None = None


async def conversation(ask: Ask, query: ExportQuery) -> Download:
    id = ask.path["id"]
    kind, ending = _KINDS[query.format]
    return Download(await exports.conversation(ask.call, id, query.format), kind, f"{id}.{ending}")


async def account(ask: Ask, query: ArchiveQuery) -> Download:
    return Download(await exports.own_account(ask.call, query.after), NDJSON, "conversations.ndjson")
