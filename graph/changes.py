"""What has changed in the schema since an earlier one, as far as clients can be hurt by it."""

from __future__ import annotations

from graphql import GraphQLError, build_schema, find_breaking_changes, find_dangerous_changes

from graph.schema import sdl


def since(earlier: str) -> tuple[list[str], list[str]]:
    """What breaks clients of the earlier schema, and what may surprise them. Raises ValueError when it is no schema."""
    try:
        before, after = build_schema(earlier), build_schema(sdl())
    except GraphQLError as error:
        raise ValueError(f"this is no GraphQL schema: {error.message}") from error
    broken = [change.description for change in find_breaking_changes(before, after)]
    return broken, [change.description for change in find_dangerous_changes(before, after)]
