"""Tools that models may call: what users see of them, and what administrators decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from db import tools
from db.base import now
from db.models import ToolRecord
from engine.tools import records, words
from engine.tools.keeper import ToolKeeper
from resolvers import audit
from resolvers.access import ADMIN, READ, clean_object, clean_text, require
from resolvers.call import Call
from resolvers.conversations import ABSENT, Absent
from resolvers.errors import InvalidInput, NotFound, Unavailable
from resolvers.paging import Page, Window

MOST_KEYWORDS = 200
MOST_KINDS = 50
LONGEST_WORD = 200
LONGEST_REASON = 1000
LONGEST_DESCRIPTION = 8000
LARGEST_METADATA = 16 << 10
_TEXTS = {"reason": LONGEST_REASON, "own_description": LONGEST_DESCRIPTION, "category": LONGEST_WORD}
_LISTS = {"tags": MOST_KINDS, "require_approval_for": MOST_KINDS, "disallowed_keywords": MOST_KEYWORDS}
_NOUN = "tool"
_OFFERED, _ALL = "tools", "all tools"


@dataclass(frozen=True, slots=True)
class KnownTool:
    """A tool with the name of its server; `is_offered` while models may be offered it, `is_within_reach` while its server can be."""

    row: ToolRecord
    server: str
    is_offered: bool
    is_within_reach: bool

    @property
    def description(self) -> str:
        return self.row.description if self.row.own_description is None else self.row.own_description

    @property
    def tags(self) -> Sequence[str]:
        return records.tags(self.row)

    @property
    def needs_approval(self) -> bool:
        return records.needs_approval(self.row)


@dataclass(frozen=True, slots=True)
class ToolFilter:
    """Which tools; `search` looks in names and descriptions."""

    category: str | None = None
    is_enabled: bool | None = None
    search: str | None = None


@dataclass(frozen=True, slots=True)
class ToolChange:
    """What is to be changed. None means something where it can be given: no reason, the server's own description, by the kinds."""

    is_enabled: bool | Absent = ABSENT
    reason: str | Absent | None = ABSENT
    own_description: str | Absent | None = ABSENT
    category: str | Absent | None = ABSENT
    tags: Sequence[str] | Absent = ABSENT
    disallowed_keywords: Sequence[str] | Absent = ABSENT
    require_approval: bool | Absent | None = ABSENT
    require_approval_for: Sequence[str] | Absent = ABSENT
    metadata: object = ABSENT


def keeper(call: Call) -> ToolKeeper:
    """Raises Unavailable where this process keeps no tools."""
    if call.services.tools is None:
        raise Unavailable("Tools are not kept here", retry_after=None)
    return call.services.tools


def offered(call: Call) -> list[KnownTool]:
    """Those that models may be offered."""
    require(call, READ)
    return [one for one in _known(call) if one.is_offered]


def offered_tool(call: Call, key: str) -> KnownTool | None:
    """By its id or its name."""
    return next((one for one in offered(call) if key in (one.row.id, one.row.name)), None)


def page(call: Call, window: Window) -> Page[KnownTool]:
    """A page of those that models may be offered. Raises InvalidInput for a cursor of another list."""
    return _page(call, _OFFERED, offered(call), window)


def everything(call: Call, wanted: ToolFilter | None = None) -> list[KnownTool]:
    """All that servers have now, for administrators."""
    require(call, ADMIN)
    return [one for one in _known(call) if wanted is None or _is_wanted(one, wanted)]


def whole_page(call: Call, window: Window) -> Page[KnownTool]:
    """A page of all, for administrators. Raises InvalidInput for a cursor of another list."""
    return _page(call, _ALL, everything(call), window)


def managed(call: Call, key: str) -> KnownTool:
    """By its id or its name, for administrators. Raises NotFound."""
    found = next((one for one in everything(call) if key in (one.row.id, one.row.name)), None)
    if found is None:
        raise NotFound(_NOUN, key, field="id")
    return found


async def change(call: Call, key: str, wanted: ToolChange) -> KnownTool:
    """Has effect in all processes, in this one at once. For administrators. Raises NotFound, InvalidInput."""
    require(call, ADMIN)
    clean_text(key, "id", limit=LONGEST_WORD)
    changed = _cleaned(wanted)
    async with call.write() as session:
        row = await tools.find(session, key)
        if row is None:
            raise NotFound(_NOUN, key, field="id")
        for name, value in changed.items():
            setattr(row, name, value)
        if changed:
            row.updated_at = now()
            told = {"is_enabled": row.is_enabled, "reason": row.reason}
            audit.record(session, call, "tool.update", row.id, name=row.name, changed=sorted(changed), now=told)
            tools.announce(session)
    await keeper(call).read()
    return managed(call, row.id)


def _known(call: Call) -> list[KnownTool]:
    kept = keeper(call)
    usable = {tool.id for tool in call.services.toolbox.enabled()}
    within_reach = {one.row.id for one in kept.servers() if one.is_within_reach}
    return [
        KnownTool(row, kept.server_name(row.server_id), row.id in usable, row.server_id in within_reach)
        for row in kept.records()
        if row.is_listed
    ]


def _page(call: Call, scope: str, found: Sequence[KnownTool], window: Window) -> Page[KnownTool]:
    cursors, start = call.services.cursors, 0
    if window.cursor is not None:
        place, id = cursors.read(scope, window.cursor)
        # The list may have changed since: after the same tool, or else after the same place.
        start = next((index for index, one in enumerate(found, 1) if one.row.id == id), int(place))
    nodes = found[start : start + window.size]
    made = [cursors.make(scope, (index, one.row.id)) for index, one in enumerate(nodes, start + 1)]
    return Page(nodes, made, has_next=start + len(nodes) < len(found), has_previous=start > 0)


def _is_wanted(one: KnownTool, wanted: ToolFilter) -> bool:
    if wanted.category is not None and one.row.category != wanted.category:
        return False
    if wanted.is_enabled is not None and one.row.is_enabled is not wanted.is_enabled:
        return False
    text = f"{one.row.name}\n{one.row.title}\n{one.description}".casefold()
    return wanted.search is None or wanted.search.casefold() in text


def _cleaned(wanted: ToolChange) -> Mapping[str, object]:
    """What was given, under the names of the row. Raises InvalidInput."""
    given = {one.name: value for one in fields(wanted) if (value := getattr(wanted, one.name)) is not ABSENT}
    for name, longest in _TEXTS.items():
        if isinstance(given.get(name), str):
            clean_text(given[name], name.removeprefix("own_"), limit=longest)
    for name, most in _LISTS.items():
        if name in given:
            given[name] = _words(given[name], name, most)
    if not all(map(words.is_findable, given.get("disallowed_keywords", ()))):
        raise InvalidInput("A keyword needs something that can be seen", field="disallowed_keywords")
    if "metadata" in given:
        given["details"] = clean_object(given.pop("metadata"), "metadata", largest=LARGEST_METADATA)
    if given.get("is_enabled") is True:
        # Why it was switched off does not hold any more.
        given.setdefault("reason", None)
    return given


def _words(found: Sequence[str], field: str, most: int) -> list[str]:
    if len(found) > most:
        raise InvalidInput(f"{field} may have {most} entries", field=field, code="too_long")
    for word in found:
        clean_text(word, field, limit=LONGEST_WORD, minimum=1)
    return list(dict.fromkeys(found))
