"""Projects, as fields of the roots."""

import strawberry

from graph.relay import After, Connection, First, Id, Info, Input, connection, given, resolved, shaped
from graph.types.payload import mendable
from graph.types.project import (
    CreateProjectInput,
    DeleteProjectInput,
    DeleteProjectPayload,
    Project,
    ProjectPayload,
    UpdateProjectInput,
)
from resolvers import projects
from resolvers.paging import Window


@strawberry.type
class ProjectFields:
    @resolved("The viewer's projects, the newest first.")
    async def projects(
        self, info: Info, first: First = strawberry.UNSET, after: After = strawberry.UNSET
    ) -> Connection[Project]:
        window = Window.make(given(first), given(after), None, None)
        return connection(await projects.page(info.context.call, window), Project.from_row)

    @resolved("One project; null when it is missing or belongs to somebody else.")
    async def project(self, info: Info, id: Id) -> Project | None:
        return shaped(Project.from_row, await info.context.loaders.projects.load(id))


@strawberry.type
class ProjectMutations:
    @resolved("Makes a project.")
    @mendable(ProjectPayload)
    async def create_project(self, info: Info, input: Input[CreateProjectInput]) -> ProjectPayload:
        row = await projects.create(input.call(info), input.name, given(input.instruction))
        return ProjectPayload(project=Project.from_row(row))

    @resolved("Changes a project.")
    @mendable(ProjectPayload)
    async def update_project(self, info: Info, input: Input[UpdateProjectInput]) -> ProjectPayload:
        row = await projects.update(info.context.call, input.id, input.change())
        info.context.loaders.forget()
        return ProjectPayload(project=Project.from_row(row))

    @resolved("Deletes a project; its conversations stay.")
    @mendable(DeleteProjectPayload)
    async def delete_project(self, info: Info, input: Input[DeleteProjectInput]) -> DeleteProjectPayload:
        await projects.delete(info.context.call, input.id)
        info.context.loaders.forget()
        return DeleteProjectPayload(deleted_id=input.id)
