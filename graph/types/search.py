"""What a search finds."""

from datetime import datetime
from enum import Enum

import strawberry

from graph.relay import Connection, given
from graph.types.conversation import Conversation, Item, item
from resolvers.search import EntryKind, Filter, Hit


@strawberry.enum(description="What a search looks through.")
class SearchKind(Enum):
    TITLE = strawberry.enum_value("title", description="Titles of conversations.")
    MESSAGE = strawberry.enum_value("message", description="What people and models said.")
    TOOL = strawberry.enum_value("tool", description="What tools answered.")


@strawberry.enum(description="Who says what is found.")
class SearchRole(Enum):
    USER = strawberry.enum_value("user", description="A person.")
    ASSISTANT = strawberry.enum_value("assistant", description="A model.")
    SYSTEM = strawberry.enum_value("system", description="Instructions to the model.")
    TOOL = strawberry.enum_value("tool", description="A tool.")


@strawberry.enum(description="The order of what is found.")
class SearchOrder(Enum):
    NEWEST = strawberry.enum_value("newest", description="The newest first.")
    MATCHES = strawberry.enum_value(
        "matches", description="Those in which the words occur most often first; the newest of equals."
    )


@strawberry.input(description="Where to look; everywhere by default.")
class SearchFilter:
    conversation_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="In this conversation only."
    )
    roles: list[SearchRole] | None = strawberry.field(
        default=strawberry.UNSET, description="In items of these only; no titles then."
    )
    kinds: list[SearchKind] | None = strawberry.field(default=strawberry.UNSET, description="In these only.")
    since: datetime | None = strawberry.field(default=strawberry.UNSET, description="From this moment on.")
    until: datetime | None = strawberry.field(default=strawberry.UNSET, description="Before this moment.")
    is_archived: bool | None = strawberry.field(
        default=strawberry.UNSET, description="In conversations that were put away, or in those that were not."
    )

    def wanted(self) -> Filter:
        return Filter(
            given(self.conversation_id),
            frozenset(role.name.lower() for role in given(self.roles) or ()),
            frozenset(EntryKind[kind.name] for kind in given(self.kinds) or ()),
            given(self.since),
            given(self.until),
            given(self.is_archived),
        )


@strawberry.type(description="A place in a text.")
class TextRange:
    start: int = strawberry.field(description="Where it begins, counted in Unicode characters from 0.")
    end: int = strawberry.field(description="Where it has ended.")


@strawberry.type(description="A title or an item that was found.")
class SearchHit:
    kind: SearchKind = strawberry.field(description="What it is.")
    conversation: Conversation = strawberry.field(description="The conversation.")
    item: Item | None = strawberry.field(description="The item; null where the title matches.")
    excerpt: str = strawberry.field(description="A piece of the text, around the first match.")
    ranges: list[TextRange] = strawberry.field(description="Where in `excerpt` the matches are.")
    snippet: str = strawberry.field(description="`excerpt` as HTML, escaped, with the matches in `<mark>`.")
    matches: int = strawberry.field(description="How often the words occur in the whole text.")

    @classmethod
    def from_hit(cls, hit: Hit) -> "SearchHit":
        return cls(
            kind=SearchKind(hit.kind.value),
            conversation=Conversation.from_row(hit.conversation),
            item=item(hit.item) if hit.item is not None else None,
            excerpt=hit.excerpt.text,
            ranges=[TextRange(start=start, end=end) for start, end in hit.excerpt.ranges],
            snippet=hit.excerpt.marked(),
            matches=hit.matches,
        )


@strawberry.type(description="A page of what was found.")
class SearchConnection(Connection[SearchHit]):
    pass
