"""Branches of a conversation."""

from datetime import datetime

import strawberry

from resolvers.branches import Lineage


@strawberry.type(description="A line through a conversation: its own items after those that it shares with its parent.")
class Branch:
    name: str = strawberry.field(description="Its name, unique in the conversation.")
    is_active: bool = strawberry.field(description="Whether it is the one that is shown and written to.")
    parent_name: str | None = strawberry.field(description="Name of the branch that it forked from, if any.")
    fork_position: int = strawberry.field(description="How many items it shares with its parent.")
    item_count: int = strawberry.field(description="How many items stand along it, those included that it shares.")
    created_at: datetime = strawberry.field(description="When it forked, or when the conversation was made.")

    @classmethod
    def from_lineage(cls, found: Lineage) -> "Branch":
        row = found.branch
        return cls(
            name=row.name,
            is_active=found.is_active,
            parent_name=found.parent,
            fork_position=row.fork_position,
            item_count=row.length,
            created_at=row.created_at,
        )
