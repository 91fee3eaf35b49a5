"""Searching, as a field of the query."""

from typing import Annotated

import strawberry

from graph.relay import After, First, Info, edges, given, page_info, resolved
from graph.types.search import SearchConnection, SearchFilter, SearchHit, SearchOrder
from resolvers import search
from resolvers.paging import Window


@strawberry.type
class SearchFields:
    @resolved("What in the viewer's conversations has these words: titles, messages, and what tools answered.")
    async def search(
        self,
        info: Info,
        query: Annotated[
            str,
            strawberry.argument(
                description='All the words that must be there, the last of which may be unfinished; "several '
                'side by side"; -without. Case, accents and signs do not matter.'
            ),
        ],
        filter: Annotated[SearchFilter | None, strawberry.argument(description="Where to look.")] = strawberry.UNSET,
        order_by: Annotated[
            SearchOrder | None, strawberry.argument(description="Their order: the newest first by default.")
        ] = SearchOrder.NEWEST,
        first: First = strawberry.UNSET,
        after: After = strawberry.UNSET,
    ) -> SearchConnection:
        window = Window.make(given(first), given(after), None, None)
        found = await search.page(
            info.context.call,
            query,
            window,
            (given(filter) or SearchFilter()).wanted(),
            is_by_matches=order_by is SearchOrder.MATCHES,
        )
        return SearchConnection(edges=edges(found, SearchHit.from_hit), page_info=page_info(found))
