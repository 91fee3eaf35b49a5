"""Projects."""

from datetime import datetime

import strawberry

from db import models
from graph.relay import Node, given, or_absent
from graph.types.payload import UserError
from graph.types.repetition import Repeatable
from resolvers.conversations import ABSENT
from resolvers.projects import Change


@strawberry.type(description="A folder of conversations.")
class Project(Node):
    name: str = strawberry.field(description="Its name, unique among those of its owner.")
    instruction: str | None = strawberry.field(description="What models are told before each of its conversations.")
    is_favorite: bool = strawberry.field(description="Whether its owner has marked it.")
    is_archived: bool = strawberry.field(description="Whether it was put away.")
    created_at: datetime = strawberry.field(description="When it was made.")
    updated_at: datetime = strawberry.field(description="When it last changed.")

    @classmethod
    def from_row(cls, row: models.Project) -> "Project":
        return cls(
            id=strawberry.ID(row.id),
            name=row.name,
            instruction=row.instruction,
            is_favorite=row.is_favorite,
            is_archived=row.archived_at is not None,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )


@strawberry.input(description="A new project.")
class CreateProjectInput(Repeatable):
    name: str = strawberry.field(description="Its name: 1 to 120 characters.")
    instruction: str | None = strawberry.field(
        default=strawberry.UNSET, description="What models are told first: at most 32,768 characters."
    )


@strawberry.input(description="What a project shall become. What is left out stays as it is.")
class UpdateProjectInput:
    id: strawberry.ID = strawberry.field(description="ID of the project.")
    name: str | None = strawberry.field(default=strawberry.UNSET, description="Its name; null changes nothing.")
    instruction: str | None = strawberry.field(
        default=strawberry.UNSET, description="What models are told first; null for nothing."
    )
    is_favorite: bool | None = strawberry.field(default=strawberry.UNSET, description="Whether it is marked.")
    is_archived: bool | None = strawberry.field(default=strawberry.UNSET, description="Whether it is put away.")

    def change(self) -> Change:
        name, is_favorite, is_archived = given(self.name), given(self.is_favorite), given(self.is_archived)
        return Change(
            name=ABSENT if name is None else name,
            instruction=or_absent(self.instruction),
            is_favorite=ABSENT if is_favorite is None else is_favorite,
            is_archived=ABSENT if is_archived is None else is_archived,
        )


@strawberry.type(description="A project that was made or changed.")
class ProjectPayload:
    project: Project | None = strawberry.field(default=None, description="The project.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")


@strawberry.input(description="Which project to delete.")
class DeleteProjectInput:
    id: strawberry.ID = strawberry.field(description="ID of the project.")


@strawberry.type(description="A project that was deleted. Its conversations stay.")
class DeleteProjectPayload:
    deleted_id: strawberry.ID | None = strawberry.field(default=None, description="ID of the project.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")
