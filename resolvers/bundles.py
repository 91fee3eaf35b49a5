"""A conversation out of an archive, checked as a whole and made into rows with ids of its new owner's.

The ids are derived from the old ones: what is imported twice is recognised by them.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from db.base import derived_id
from db.models import TOOL_CALL, Branch, Conversation, Generation, GenerationStatus, Item, ItemStatus
from resolvers.access import check_storable, clean_object, clean_text
from resolvers.archive import BranchLine, ConversationLine, ItemLine, JsonObject, RunObject
from resolvers.contents import MOST_PARTS, ROLES
from resolvers.conversations import LARGEST_METADATA, LONGEST_TITLE
from resolvers.errors import InvalidInput

LONGEST_NAME = 200
LONGEST_TEXT = 2_000_000
# The parts that items hold, with the fields that must be text.
_PARTS: Mapping[str, Sequence[str]] = {
    "text": ("text",),
    "reasoning": ("text",),
    "image": ("url",),
    "tool_call": ("id", "name", "arguments"),
}
# How the ids of items begin.
_PREFIXES: Mapping[str, str] = {"message": "msg", TOOL_CALL: "call"}
_RATINGS = (None, "like", "unlike")


@dataclass(slots=True)
class Bundle:
    """A conversation with its branches and items; `line` is where it began, `size` how many bytes it took."""

    line: int
    conversation: ConversationLine
    branches: list[BranchLine] = field(default_factory=list)
    items: list[ItemLine] = field(default_factory=list)
    size: int = 0


@dataclass(frozen=True, slots=True)
class Rows:
    """In the order in which they can be inserted. `origin` is the id that the conversation had."""

    origin: str
    conversation: Conversation
    branches: Sequence[Branch]
    items: Sequence[Item]
    generations: Sequence[Generation]


def conversation_id(user_id: str, line: ConversationLine) -> str:
    return derived_id("conv", utc(line.created_at), user_id, line.id)


def utc(moment: datetime) -> datetime:
    """In UTC, cut to milliseconds; one without an offset is taken for UTC. Raises InvalidInput for none of this world."""
    try:
        found = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInput("a moment is out of range", field="created_at") from error
    return found.replace(microsecond=found.microsecond // 1000 * 1000)


def rows(bundle: Bundle, user_id: str, projects: Mapping[str, str]) -> Rows:
    """`projects`: the new ids of projects, by their old ones. Raises InvalidInput naming what does not hold."""
    line = bundle.conversation
    conversation = _conversation(line, user_id, projects)
    tree = _Tree(bundle, conversation.id)
    if line.active_branch not in tree.names:
        raise InvalidInput("active_branch must name one of its branches", field="active_branch")
    items, generations = [], []
    for old in tree.order:
        for item_line, row in tree.items_of(old):
            items.append(row)
            if item_line.generation is not None:
                generations.append(_generation(item_line.generation, row, user_id))
    return Rows(line.id, conversation, [tree.rows[id] for id in tree.order], items, generations)


def _conversation(line: ConversationLine, user_id: str, projects: Mapping[str, str]) -> Conversation:
    return Conversation(
        id=conversation_id(user_id, line),
        user_id=user_id,
        title=clean_text(line.title, "title", limit=LONGEST_TITLE) if line.title is not None else None,
        is_title_own=line.is_title_own,
        details=clean_object(line.metadata, "metadata", largest=LARGEST_METADATA),
        project_id=projects.get(line.project_id or ""),
        referrer=clean_text(line.referrer, "referrer", limit=LONGEST_NAME) if line.referrer is not None else None,
        is_archived=line.is_archived,
        active_branch=line.active_branch,
        version=1,
        created_at=utc(line.created_at),
        updated_at=utc(line.updated_at),
    )


class _Tree:
    """The branches, parents first, each with its items in their order. Raises InvalidInput for what is no tree."""

    def __init__(self, bundle: Bundle, conversation_id: str) -> None:
        self._conversation_id = conversation_id
        self._lines = {branch.id: branch for branch in bundle.branches}
        self.names = {branch.name for branch in bundle.branches}
        if len(self._lines) != len(bundle.branches) or len(self.names) != len(bundle.branches):
            raise InvalidInput("two branches have the same id or name", field="branches")
        self._items: dict[str, list[ItemLine]] = defaultdict(list)
        for item in bundle.items:
            if item.branch_id not in self._lines:
                raise InvalidInput(f"item {item.id[:100]} is of no branch", field="branch_id")
            self._items[item.branch_id].append(item)
        if len({item.id for item in bundle.items}) != len(bundle.items):
            raise InvalidInput("two items have the same id", field="items")
        self.order = self._parents_first()
        self.rows = {id: self._row(self._lines[id]) for id in self.order}

    def _parents_first(self) -> list[str]:
        children = defaultdict(list)
        for branch in self._lines.values():
            children[branch.parent_id].append(branch.id)
        order, waiting = [], deque(children[None])
        while waiting:
            id = waiting.popleft()
            order.append(id)
            waiting.extend(children[id])
        if len(order) != len(self._lines) or not order:
            raise InvalidInput("a branch has no parent here", field="parent_id")
        self._check_positions(order)
        return order

    def _check_positions(self, order: Sequence[str]) -> None:
        lengths: dict[str, int] = {}
        for id in order:
            branch, own = self._lines[id], self._items[id]
            own.sort(key=lambda item: item.position)
            start = branch.fork_position
            if not 0 <= start <= (lengths[branch.parent_id] if branch.parent_id is not None else 0):
                raise InvalidInput("a branch stands on more than its parent has", field="fork_position")
            if any(item.position != start + index for index, item in enumerate(own, start=1)):
                raise InvalidInput("the positions of a branch must count on from where it forked", field="position")
            lengths[id] = start + len(own)

    def _row(self, line: BranchLine) -> Branch:
        return Branch(
            id=self._new("br", line.created_at, line.id),
            conversation_id=self._conversation_id,
            name=clean_text(line.name, "name", limit=LONGEST_NAME, minimum=1),
            parent_id=self._parent(line),
            fork_position=line.fork_position,
            length=line.fork_position + len(self._items[line.id]),
            created_at=utc(line.created_at),
        )

    def _parent(self, line: BranchLine) -> str | None:
        if line.parent_id is None:
            return None
        parent = self._lines[line.parent_id]
        return self._new("br", parent.created_at, parent.id)

    def items_of(self, id: str) -> list[tuple[ItemLine, Item]]:
        """The items of a branch, each with the one before it along its line for a parent."""
        made = []
        before = self._at(self._lines[id])
        for line in self._items[id]:
            row = _item(line, self.rows[id], self._new_item(line), before)
            made.append((line, row))
            before = row.id
        return made

    def _at(self, line: BranchLine) -> str | None:
        """The new id of the item that a branch stands on."""
        position = line.fork_position
        while line.parent_id is not None and position <= line.fork_position:
            line = self._lines[line.parent_id]
        if not position:
            return None
        return self._new_item(self._items[line.id][position - line.fork_position - 1])

    def _new_item(self, line: ItemLine) -> str:
        return self._new(_PREFIXES.get(line.item_type, "msg"), line.created_at, line.id)

    def _new(self, prefix: str, moment: datetime, old: str) -> str:
        return derived_id(prefix, utc(moment), self._conversation_id, old)


def _item(line: ItemLine, branch: Branch, id: str, parent_id: str | None) -> Item:
    roles = ROLES if line.item_type != TOOL_CALL else {"tool"}
    if line.role not in roles:
        raise InvalidInput(f"role must be one of {', '.join(sorted(roles))}", field="role")
    if line.rating not in _RATINGS:
        raise InvalidInput("rating must be like or unlike", field="rating")
    if line.item_type not in _PREFIXES:
        raise InvalidInput(f"item_type must be {' or '.join(_PREFIXES)}", field="item_type")
    return Item(
        id=id,
        conversation_id=branch.conversation_id,
        branch_id=branch.id,
        position=line.position,
        type=line.item_type,
        role=line.role,
        status=_status(line.status),
        content=_content(line.content) if line.item_type != TOOL_CALL else _use(line.content),
        is_plain=line.is_plain,
        generation_id=derived_id("gen", utc(line.generation.created_at), id) if line.generation is not None else None,
        parent_id=parent_id,
        rating=line.rating,
        rating_comment=clean_text(line.rating_comment, "rating_comment", limit=LONGEST_TEXT)
        if line.rating_comment is not None
        else None,
        created_at=utc(line.created_at),
        updated_at=utc(line.updated_at),
    )


def _status(status: str) -> ItemStatus:
    """Nothing is being written any more."""
    return ItemStatus.COMPLETED if status == ItemStatus.COMPLETED else ItemStatus.INCOMPLETE


def _content(parts: Sequence[JsonObject]) -> list[JsonObject]:
    if len(parts) > MOST_PARTS:
        raise InvalidInput(f"content has more than {MOST_PARTS} parts", field="content")
    for part in parts:
        fields = _PARTS.get(str(part.get("type")))
        if fields is None:
            raise InvalidInput(f"the type of a part must be one of {', '.join(_PARTS)}", field="content")
        if not all(isinstance(part.get(name), str) and len(str(part[name])) <= LONGEST_TEXT for name in fields):
            raise InvalidInput(f"a part needs text as its {' and '.join(fields)}", field="content")
        check_storable(part, "content")
    return list(parts)


def _use(parts: Sequence[JsonObject]) -> list[JsonObject]:
    """The one part of an item that is a use of a tool, with what the tool gave if it gave something."""
    found = _content(parts)
    if len(found) != 1 or found[0]["type"] != TOOL_CALL:
        raise InvalidInput(f"an item of the type {TOOL_CALL} needs one part of that type", field="content")
    part = found[0]
    is_whole = all(isinstance(part.get(name, ""), str) for name in ("output", "code"))
    if not is_whole or not isinstance(part.get("is_error", False), bool):
        raise InvalidInput("output and code must be text, and is_error true or false", field="content")
    if len(str(part.get("output", ""))) > LONGEST_TEXT:
        raise InvalidInput(f"output has more than {LONGEST_TEXT} characters", field="content")
    return found


def _generation(run: RunObject, item: Item, user_id: str) -> Generation:
    for value in (run.model, run.provider, run.error_message):
        clean_text(value or "", "generation", limit=LONGEST_TEXT)
    try:
        status = GenerationStatus(run.status)
    except ValueError:
        status = GenerationStatus.INCOMPLETE
    return Generation(
        id=item.generation_id,
        user_id=user_id,
        conversation_id=item.conversation_id,
        item_id=item.id,
        model=run.model,
        provider=run.provider,
        status=status if status.is_terminal else GenerationStatus.INCOMPLETE,
        text=item.text,
        reasoning="".join(str(part["text"]) for part in item.content if part["type"] == "reasoning"),
        finish_reason=run.finish_reason,
        error_code=run.error_code,
        error_message=run.error_message,
        error_is_retryable=run.error_is_retryable,
        prompt_tokens=run.prompt_tokens,
        completion_tokens=run.completion_tokens,
        usage_provenance=run.usage_provenance,
        created_at=utc(run.created_at),
        finished_at=utc(run.finished_at) if run.finished_at is not None else None,
    )
