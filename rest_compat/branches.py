"""Branches of a conversation, by their names."""

from __future__ import annotations

import msgspec

from resolvers import branches
from rest_compat import shapes
from rest_compat.endpoint import Ask, Reply


class NewBranch(msgspec.Struct, frozen=True):
    """Where neither is named, it forks at the end of the active branch. `description` is not kept."""

    name: str
    parent_branch: str | None = None
    fork_from_item_id: str | None = None
    description: str | None = None


class BranchList(msgspec.Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: list[shapes.BranchObject]
    active_branch: str


class Activated(msgspec.Struct, frozen=True, kw_only=True):
    active_branch: str
    message: str = "Branch activated successfully"


async def list_all(ask: Ask) -> Reply:
    found = [shapes.branch(one) for one in await branches.of(ask.call, ask.path["id"])]
    active = next(one.name for one in found if one.is_active)
    return Reply(msgspec.json.encode(BranchList(data=found, active_branch=active)))


async def create(ask: Ask, new: NewBranch) -> Reply:
    made = await branches.create(
        ask.call, ask.path["id"], new.name, from_item=new.fork_from_item_id, parent=new.parent_branch
    )
    return Reply(shapes.merged(shapes.branch(made)), 201)


async def get(ask: Ask) -> Reply:
    return Reply(shapes.merged(shapes.branch(await branches.get(ask.call, ask.path["id"], ask.path["name"]))))


async def activate(ask: Ask) -> Reply:
    found = await branches.activate(ask.call, ask.path["id"], ask.path["name"])
    return Reply(msgspec.json.encode(Activated(active_branch=found.active_branch)))


async def delete(ask: Ask) -> Reply:
    await branches.delete(ask.call, ask.path["id"], ask.path["name"])
    return Reply(b"", 204)
