"""Models and who serves them, as fields of the root."""

from typing import Annotated

import strawberry

from graph.relay import After, Connection, First, Info, connection, given, resolved, shaped
from graph.types.catalog import Model, ModelFilter, Provider
from resolvers import catalog
from resolvers.paging import Window


@strawberry.type
class ModelFields:
    @resolved("The models that can be named, in the operator's order.")
    def models(
        self,
        info: Info,
        first: First = strawberry.UNSET,
        after: After = strawberry.UNSET,
        filter: Annotated[
            ModelFilter | None, strawberry.argument(description="Which of them; all that can be used by default.")
        ] = strawberry.UNSET,
    ) -> Connection[Model]:
        window = Window.make(given(first), given(after), None, None)
        wanted = (given(filter) or ModelFilter()).wanted()
        return connection(catalog.page(info.context.call, window, wanted), Model.from_entry)

    @resolved("One model by its name; null when there is none of this name that can be used.")
    def model(
        self,
        info: Info,
        name: Annotated[str, strawberry.argument(description="Its name, or `provider/name`.")],
    ) -> Model | None:
        return shaped(Model.from_entry, catalog.model(info.context.call, name))

    @resolved("Who serves models here, and who else is known by name.")
    def providers(self, info: Info) -> list[Provider]:
        return [Provider.from_provider(found) for found in catalog.providers(info.context.call)]
