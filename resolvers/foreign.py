"""Conversations as other chat programs export them, made into ours: a tree of messages becomes branches."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from db.models import MAIN, GenerationStatus, ItemStatus
from resolvers.archive import BranchLine, ConversationLine, ItemLine, JsonObject, RunObject
from resolvers.bundles import Bundle
from resolvers.contents import ROLES
from resolvers.conversations import LONGEST_TITLE
from resolvers.errors import InvalidInput

_START = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Turn:
    """One message of a tree."""

    id: str
    parent: str | None
    role: str
    content: list[JsonObject]
    moment: datetime
    model: str | None = None


def is_chatgpt(value: Mapping[str, object]) -> bool:
    return isinstance(value.get("mapping"), Mapping)


def is_librechat(value: Mapping[str, object]) -> bool:
    return isinstance(value.get("conversationId"), str) and isinstance(_messages(value), list)


def chatgpt(value: Mapping[str, object], line: int) -> Bundle:
    """An element of `conversations.json`. Raises InvalidInput."""
    started = _seconds(value.get("create_time"), _START)
    nodes = _object(value.get("mapping"))
    turns = list(_attached(nodes, started))
    id = value.get("conversation_id") or value.get("id")
    conversation = ConversationLine(
        id=f"chatgpt:{_text(id)}",
        title=_title(value.get("title")),
        is_title_own=True,
        is_archived=value.get("is_archived") is True,
        active_branch=MAIN,
        created_at=started,
        updated_at=_seconds(value.get("update_time"), started),
    )
    current = _nearest(nodes, value.get("current_node"), {turn.id: turn.id for turn in turns})
    return _grown(line, conversation, turns, current)


def librechat(value: Mapping[str, object], line: int) -> Bundle:
    """A conversation exported as JSON, its messages nested in each other or not. Raises InvalidInput."""
    messages = list(_flat(_messages(value)))
    started = next((_moment(one.get("createdAt"), _START) for one in messages), _START)
    known = {_text(one.get("messageId")) for one in messages}
    turns = []
    for one in messages:
        parent = one.get("parentMessageId")
        is_user = one.get("isCreatedByUser") is True
        model = one.get("model") or value.get("model")
        turns.append(
            _Turn(
                _text(one.get("messageId")),
                parent if isinstance(parent, str) and parent in known else None,
                "user" if is_user else "assistant",
                _librechat_content(one),
                _moment(one.get("createdAt"), started),
                model if isinstance(model, str) and not is_user else None,
            )
        )
    conversation = ConversationLine(
        id=f"librechat:{_text(value.get('conversationId'))}",
        title=_title(value.get("title")),
        is_title_own=True,
        active_branch=MAIN,
        created_at=_moment(value.get("createdAt"), started),
        updated_at=max((turn.moment for turn in turns), default=started),
    )
    return _grown(line, conversation, turns, max(turns, key=lambda turn: turn.moment).id if turns else None)


def _attached(nodes: Mapping[str, object], started: datetime) -> Iterator[_Turn]:
    """The nodes that say something, each under the nearest one above it that does."""
    said = {id: turn for id, node in nodes.items() if (turn := _chatgpt_turn(id, _object(node), started)) is not None}
    found: dict[str, str | None] = {id: id for id in said}
    for id, turn in said.items():
        above = _nearest(nodes, _object(nodes[id]).get("parent"), found)
        yield _Turn(id, above, turn.role, turn.content, turn.moment, turn.model)


def _nearest(nodes: Mapping[str, object], id: object, found: dict[str, str | None]) -> str | None:
    """The node, or the nearest above it, that `found` has an answer for; what was walked past is put there too."""
    passed: dict[str, None] = {}
    while isinstance(id, str) and id in nodes and id not in found and id not in passed:
        passed[id] = None
        id = _object(nodes[id]).get("parent")
    answer = found.get(id) if isinstance(id, str) else None
    found.update(dict.fromkeys(passed, answer))
    return answer


def _chatgpt_turn(id: str, node: Mapping[str, object], started: datetime) -> _Turn | None:
    message = node.get("message")
    if not isinstance(message, Mapping):
        return None
    role = _object(message.get("author")).get("role")
    details = _object(message.get("metadata"))
    content = _chatgpt_content(_object(message.get("content")))
    if role not in ROLES or not content or details.get("is_visually_hidden_from_conversation") is True:
        return None
    model = details.get("model_slug")
    moment = _seconds(message.get("create_time"), started)
    is_named = isinstance(model, str) and role == "assistant"
    return _Turn(id, None, str(role), content, moment, str(model) if is_named else None)


def _chatgpt_content(content: Mapping[str, object]) -> list[JsonObject]:
    match content.get("content_type"):
        case "thoughts":
            thoughts = content.get("thoughts")
            said = [_object(one).get("content") for one in thoughts] if isinstance(thoughts, list) else []
            return _parts("reasoning", said)
        case "code" | "execution_output" | "tether_quote":
            return _parts("text", [content.get("text")])
        case "text" | "multimodal_text":
            parts = content.get("parts")
            return _parts("text", [_shown(part) for part in parts] if isinstance(parts, list) else [])
        case _:
            return []


def _shown(part: object) -> object:
    """Files are not in the export: their names stand for them."""
    if isinstance(part, Mapping):
        return part.get("text") or f"[{part.get('content_type')}: {part.get('asset_pointer', '')}]"
    return part


def _librechat_content(message: Mapping[str, object]) -> list[JsonObject]:
    parts = message.get("content")
    found: list[JsonObject] = []
    for part in parts if isinstance(parts, list) else ():
        kind = _object(part).get("type")
        name = {"text": "text", "think": "think"}.get(str(kind))
        value = _object(part).get(name) if name else None
        said = value.get("value") if isinstance(value, Mapping) else value
        found += _parts("reasoning" if name == "think" else "text", [said])
    return found or _parts("text", [message.get("text")])


def _parts(kind: str, said: Iterable[object]) -> list[JsonObject]:
    text = "\n\n".join(one for one in said if isinstance(one, str) and one)
    return [{"type": kind, "text": text.replace("\x00", "")}] if text else []


def _grown(line: int, conversation: ConversationLine, turns: Sequence[_Turn], current: str | None) -> Bundle:
    """The line to the current message as MAIN, and a branch for every other line. Raises InvalidInput for a circle."""
    bundle = Bundle(line, conversation)
    by_id = {turn.id: turn for turn in turns}
    children: dict[str | None, list[str]] = defaultdict(list)
    for turn in turns:
        children[turn.parent].append(turn.id)
    places: dict[str, tuple[str, int]] = {}

    def grow(ids: Iterable[str], name: str, parent: str | None, fork: int, moment: datetime) -> None:
        bundle.branches.append(
            BranchLine(
                id=name,
                conversation_id=conversation.id,
                name=name,
                parent_id=parent,
                fork_position=fork,
                created_at=moment,
            )
        )
        for position, id in enumerate(ids, start=fork + 1):
            places[id] = (name, position)
            bundle.items.append(_item(by_id[id], conversation.id, name, position))

    grow(_line_to(by_id, children, current), MAIN, None, 0, conversation.created_at)
    waiting = list(reversed(children[None]))
    while waiting:
        id = waiting.pop()
        if id not in places:
            parent, fork = places.get(by_id[id].parent or "", (MAIN, 0))
            grow(_down(children, id), f"branch-{len(bundle.branches) + 1}", parent, fork, by_id[id].moment)
        waiting.extend(reversed(children[id]))
    if len(bundle.items) != len(turns):
        raise _circle()
    return bundle


def _line_to(
    by_id: Mapping[str, _Turn], children: Mapping[str | None, Sequence[str]], current: str | None
) -> list[str]:
    if current is None:
        roots = children.get(None, ())
        return _down(children, roots[-1]) if roots else []
    line: dict[str, None] = {}
    while current is not None and current not in line:
        line[current] = None
        current = by_id[current].parent
    if current is not None:
        raise _circle()
    return list(reversed(line))


def _circle() -> InvalidInput:
    return InvalidInput("its messages answer each other in a circle", field="mapping")


def _down(children: Mapping[str | None, Sequence[str]], id: str) -> list[str]:
    """From here along the last child of each."""
    line = [id]
    while children.get(line[-1]):
        line.append(children[line[-1]][-1])
    return line


def _item(turn: _Turn, conversation_id: str, branch: str, position: int) -> ItemLine:
    run = None
    if turn.model is not None:
        run = RunObject(
            model=turn.model[:200],
            provider=conversation_id.partition(":")[0],
            status=GenerationStatus.COMPLETED,
            created_at=turn.moment,
            finished_at=turn.moment,
        )
    return ItemLine(
        id=turn.id,
        conversation_id=conversation_id,
        branch_id=branch,
        position=position,
        role=turn.role,
        status=ItemStatus.COMPLETED,
        content=turn.content,
        is_plain=turn.content[0]["type"] == "text" if turn.content else True,
        generation=run,
        created_at=turn.moment,
        updated_at=turn.moment,
    )


def _messages(value: Mapping[str, object]) -> object:
    return value.get("messagesTree", value.get("messages"))


def _flat(messages: object) -> Iterator[Mapping[str, object]]:
    """Each message before those that are nested in it."""
    waiting = list(reversed(messages)) if isinstance(messages, list) else []
    while waiting:
        message = _object(waiting.pop())
        yield message
        nested = message.get("children")
        waiting.extend(reversed(nested) if isinstance(nested, list) else ())


def _object(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidInput("a conversation and its messages must have ids", field="id")
    return value


def _title(value: object) -> str | None:
    return value.replace("\x00", "").strip()[:LONGEST_TITLE] or None if isinstance(value, str) else None


def _seconds(value: object, default: datetime) -> datetime:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return default
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidInput("a moment is out of range", field="create_time") from error


def _moment(value: object, default: datetime) -> datetime:
    if not isinstance(value, str):
        return default
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return default
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
