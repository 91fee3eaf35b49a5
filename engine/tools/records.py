"""Tools as rows: what the database knows of one, as the loop of a generation needs it, and what it does not know yet."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence

from db.models import ToolRecord
from engine.tools.base import Tool
from engine.tools.servers import Offer

LONGEST_NAME = 64
_UNFIT = re.compile(r"[^A-Za-z0-9_-]+")
# Tags that come from the protocol's hints: they tell how a tool behaves, not of what kinds its calls are.
_BEHAVIOUR = frozenset({"read_only", "destructive", "idempotent", "open_world"})


def tool(row: ToolRecord, server: str) -> Tool:
    return Tool(
        id=row.id,
        name=row.name,
        description=row.description if row.own_description is None else row.own_description,
        parameters=row.parameters,
        server=server,
        needs_approval=needs_approval(row),
        disallowed_words=row.disallowed_keywords,
        tags=tags(row),
    )


def tags(row: ToolRecord) -> list[str]:
    """The server's and the administrators'."""
    return list(dict.fromkeys([*row.hints, *row.tags]))


def needs_approval(row: ToolRecord) -> bool:
    """Whether a person must allow each call.

    A kind of call that the tool does not carry as a tag is not one of its own only where it says what kinds it has: of a tool
    that says nothing, every call may be of that kind.
    """
    if row.require_approval is not None:
        return row.require_approval
    if not row.require_approval_for:
        return False
    known = {*tags(row), row.name, row.remote_name}
    is_silent = not {*tags(row)} - _BEHAVIOUR
    return is_silent or not known.isdisjoint(row.require_approval_for)


def listed(offer: Offer) -> dict[str, object]:
    """What a server says of a tool, as it is kept."""
    return {
        "title": offer.title,
        "description": offer.description,
        "parameters": dict(offer.parameters),
        "hints": list(offer.tags),
        "problem": offer.problem,
    }


def is_as_listed(row: ToolRecord, offer: Offer) -> bool:
    found = listed(offer)
    return row.is_listed and found == {name: getattr(row, name) for name in found}


def name_for(offer: Offer, server: str, taken: Collection[str]) -> str:
    """What models shall call it by: its own name where that is free, else with its server's before it."""
    own = _fit(offer.name)
    for name in (own, f"{_fit(server)}__{own}"):
        if name not in taken and len(name) <= LONGEST_NAME:
            return name
    digest = hashlib.sha256(f"{server}\0{offer.name}".encode()).hexdigest()[:8]
    return f"{_fit(server)}__{own}"[: LONGEST_NAME - 9] + f"_{digest}"


def missing(
    offers: Sequence[Offer], server: str, server_id: str, known: Collection[str], taken: set[str]
) -> list[Mapping[str, object]]:
    """Rows for those whose own names are not known of this server. Their names are added to those that are taken."""
    rows: list[Mapping[str, object]] = []
    for offer in offers:
        if offer.name in known:
            continue
        name = name_for(offer, server, taken)
        taken.add(name)
        rows.append({"server_id": server_id, "remote_name": offer.name, "name": name, **listed(offer)})
    return rows


def _fit(name: str) -> str:
    return _UNFIT.sub("_", name) or "tool"
