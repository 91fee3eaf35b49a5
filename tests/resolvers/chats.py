"""Small exports of other programs, in the forms that they document."""

from __future__ import annotations

from typing import Any

TIME = 1_767_225_600.5


def _node(id: str, parent: str | None, role: str | None, text: str = "", **details: Any) -> dict[str, Any]:
    message: dict[str, Any] | None = None
    if role is not None:
        message = {
            "id": id,
            "author": {"role": role, "name": None, "metadata": {}},
            "create_time": TIME + len(id) if role != "system" else None,
            "content": {"content_type": "text", "parts": [text]},
            "status": "finished_successfully",
            "recipient": "all",
            "metadata": details,
        }
    return {"id": id, "message": message, "parent": parent, "children": []}


_NODES = [
    _node("root", None, None),
    _node("hidden", "root", "system", "", is_visually_hidden_from_conversation=True),
    _node("q1", "hidden", "user", "Capital of France?"),
    _node("a1", "q1", "assistant", "Paris!", model_slug="gpt-4o"),
    _node("a2", "q1", "assistant", "It is Paris.", model_slug="gpt-4o"),
    _node("tool", "a2", "tool", "looked it up"),
    _node("q2", "tool", "user", "And of Germany?"),
    _node("a3", "q2", "assistant", "Berlin is the capital of Germany.", model_slug="gpt-4o"),
]
CHATGPT: list[dict[str, Any]] = [
    {
        "title": "Capitals",
        "create_time": TIME,
        "update_time": TIME + 60,
        "mapping": {node["id"]: node for node in _NODES},
        "moderation_results": [],
        "current_node": "a3",
        "conversation_id": "9d0e0a34-0000-4000-8000-000000000001",
        "is_archived": False,
        "id": "9d0e0a34-0000-4000-8000-000000000001",
    }
]
_ROOT = "00000000-0000-0000-0000-000000000000"


def _message(id: str, parent: str, text: str, *, is_user: bool, second: int, **more: Any) -> dict[str, Any]:
    return {
        "messageId": id,
        "parentMessageId": parent,
        "conversationId": "abc",
        "sender": "User" if is_user else "GPT-4",
        "isCreatedByUser": is_user,
        "text": text,
        "createdAt": f"2026-01-01T00:00:0{second}.000Z",
        "error": False,
        **more,
    }


_FIRST = _message("m1", _ROOT, "Tell a joke", is_user=True, second=1)
_DULL = _message(
    "m2",
    "m1",
    "",
    is_user=False,
    second=2,
    content=[{"type": "think", "think": "Funny?"}, {"type": "text", "text": {"value": "No."}}],
)
_KNOCK = _message("m3", "m1", "Knock knock", is_user=False, second=3)
_WHO = _message("m4", "m3", "Who is there?", is_user=True, second=4)
_HEAD = {
    "conversationId": "abc",
    "endpoint": "openAI",
    "title": "A joke",
    "exportAt": "12:00:00 GMT+0000",
    "branches": True,
    "options": {"model": "gpt-4"},
}
LIBRECHAT_FLAT: dict[str, Any] = _HEAD | {"recursive": False, "messages": [_FIRST, _DULL, _KNOCK, _WHO]}
LIBRECHAT: dict[str, Any] = _HEAD | {
    "recursive": True,
    "messages": [_FIRST | {"children": [_DULL | {"children": []}, _KNOCK | {"children": [_WHO | {"children": []}]}]}],
}
