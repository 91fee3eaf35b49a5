"""Items of a conversation: one message, which may start a reply, or a list of them, which is only stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from resolvers import generations, items
from resolvers.contents import ImagePart, NewItem, Part, TextPart
from resolvers.conversations import MOST_ITEMS
from resolvers.errors import InvalidInput
from resolvers.generations import Options
from resolvers.parameters import Parameters
from rest_compat import shapes
from rest_compat.endpoint import Ask, Reply
from rest_compat.listing import ListQuery

Content = str | list[dict[str, object]]

_TEXTS = frozenset({"text", "input_text", "output_text"})
_IMAGES = frozenset({"image_url", "input_image", "image"})


class NewItemObject(msgspec.Struct, frozen=True):
    role: str
    content: Content
    type: Literal["message"] = "message"


class NewItems(Parameters, frozen=True, kw_only=True):
    """Either `items`, or one message in the fields themselves.

    A user's message is replied to unless `generate` is false or the operator has switched that off; `model` and the
    parameters are the reply's. `content_type` says nothing that `content` does not.
    """

    items: Annotated[list[NewItemObject], Meta(max_length=MOST_ITEMS)] | None = None
    role: str | None = None
    content: Content | None = None
    type: Literal["message"] = "message"
    content_type: str | None = None
    generate: bool | None = None
    model: str | None = None


async def post(ask: Ask, new: NewItems) -> Reply:
    conversation_id = ask.path["id"]
    if new.items is not None:
        rows = await items.add(ask.call, conversation_id, new_items(new.items))
        entries = [shapes.item(row) for row in rows]
        return Reply(shapes.listed(entries, has_more=False, total=len(entries)))
    sent = await generations.post_message(
        ask.call,
        conversation_id,
        _single(new),
        Options(model=new.model, parameters=_parameters(new)),
        wants_reply=new.generate,
    )
    entry = shapes.item(
        sent.item,
        generation_id=sent.generation.id if sent.generation else None,
        reply_id=sent.reply.id if sent.reply else None,
    )
    return Reply(shapes.merged(entry), 201)


async def list_page(ask: Ask, query: ListQuery) -> Reply:
    found = await items.listing(ask.call, ask.path["id"], query.slice(is_descending=False))
    entries = [shapes.item(row) for row in found.items]
    return Reply(shapes.listed(entries, has_more=found.has_more, total=found.total))


def new_items(written: Sequence[NewItemObject]) -> list[NewItem]:
    """Raises InvalidInput naming the first part that is not understood."""
    return [_item(one.role, one.content, f"items[{index}].content") for index, one in enumerate(written)]


def _single(new: NewItems) -> NewItem:
    if new.role is None or new.content is None:
        missing = "role" if new.role is None else "content"
        raise InvalidInput("Give `role` and `content`, or a list of `items`", field=missing)
    return _item(new.role, new.content, "content")


def _parameters(new: NewItems) -> dict[str, object]:
    given = {name: getattr(new, name) for name in Parameters.__struct_fields__}
    return {name: value for name, value in given.items() if value is not None}


def _item(role: str, content: Content, field: str) -> NewItem:
    if isinstance(content, str):
        return NewItem(role, [TextPart(content)])
    parts = [_part(part, f"{field}[{index}]") for index, part in enumerate(content)]
    return NewItem(role, parts, is_plain=False)


def _part(part: Mapping[str, object], field: str) -> Part:
    kind = part.get("type")
    if not isinstance(kind, str) or kind not in _TEXTS | _IMAGES:
        raise InvalidInput(f"{field}.type must be text or image_url", field=f"{field}.type")
    if kind in _TEXTS:
        # The older format names the text after the part's type.
        return TextPart(_text(part.get("text", part.get(kind)), f"{field}.text"))
    image = part.get("image_url", part.get("image", part))
    if not isinstance(image, Mapping):
        return ImagePart(_text(image, f"{field}.image_url"))
    detail = image.get("detail")
    return ImagePart(
        _text(image.get("url"), f"{field}.image_url.url"),
        None if detail is None else _text(detail, f"{field}.image_url.detail"),
    )


def _text(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"{field} must be a string", field=field)
    return value
