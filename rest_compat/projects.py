"""Projects: folders of conversations."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from db.models import Project
from resolvers import projects
from resolvers.conversations import ABSENT
from resolvers.projects import Change
from rest_compat import shapes
from rest_compat.endpoint import Ask, Reply
from rest_compat.listing import ListQuery


class NewProject(msgspec.Struct, frozen=True):
    name: str
    instruction: str | None = None


class ProjectChange(msgspec.Struct, frozen=True):
    """What is absent stays."""

    name: str | UnsetType = UNSET
    instruction: str | UnsetType | None = UNSET
    is_favorite: bool | UnsetType = UNSET
    is_archived: bool | UnsetType = UNSET


async def create(ask: Ask, new: NewProject) -> Reply:
    return _reply(await projects.create(ask.call, new.name, new.instruction), 201)


async def list_page(ask: Ask, query: ListQuery) -> Reply:
    found = await projects.listing(ask.call, query.slice(is_descending=True))
    entries = [shapes.project(row) for row in found.items]
    return Reply(shapes.listed(entries, has_more=found.has_more, total=found.total))


async def get(ask: Ask) -> Reply:
    return _reply(await projects.get(ask.call, ask.path["id"]))


async def update(ask: Ask, change: ProjectChange) -> Reply:
    return _reply(
        await projects.update(
            ask.call,
            ask.path["id"],
            Change(
                name=ABSENT if change.name is UNSET else change.name,
                instruction=ABSENT if change.instruction is UNSET else change.instruction,
                is_favorite=ABSENT if change.is_favorite is UNSET else change.is_favorite,
                is_archived=ABSENT if change.is_archived is UNSET else change.is_archived,
            ),
        )
    )


async def delete(ask: Ask) -> Reply:
    id = ask.path["id"]
    await projects.delete(ask.call, id)
    return Reply(shapes.merged(shapes.Deleted(id=id, object="project")))


def _reply(row: Project, status: int = 200) -> Reply:
    return Reply(shapes.merged(shapes.project(row)), status)
