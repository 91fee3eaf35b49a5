"""Items of a conversation: written, one of which may start a reply, read, changed in place, and forked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from resolvers import edits, generations, items
from resolvers.contents import ImagePart, NewItem, Part, TextPart
from resolvers.conversations import MOST_ITEMS
from resolvers.edits import Forked
from resolvers.errors import InvalidInput
from resolvers.generations import Options
from resolvers.items import Placed
from resolvers.parameters import Parameters
from rest_compat import shapes
from rest_compat.endpoint import Ask, Reply
from rest_compat.listing import ListQuery
from rest_compat.versions import deleted, expected, tag

Content = str | list[dict[str, object]]

_TEXTS = frozenset({"text", "input_text", "output_text"})
_IMAGES = frozenset({"image_url", "input_image", "image"})


class NewItemObject(msgspec.Struct, frozen=True):
    role: str
    content: Content
    type: Literal["message"] = "message"


class ItemQuery(ListQuery, frozen=True):
    """`branch`: along which; the active one when it is not named."""

    branch: str | None = None


class ItemChange(msgspec.Struct, frozen=True):
    """`expected_version` may also be given as `If-Match`."""

    content: Content
    expected_version: int | None = None


class ItemEdit(Parameters, frozen=True, kw_only=True):
    """`regenerate` starts a reply, to which `model` and the parameters belong."""

    content: Content
    regenerate: bool = False
    model: str | None = None


class Regeneration(Parameters, frozen=True, kw_only=True):
    """How to run the model. Without a body nothing is run: the conversation only goes back to where a reply was due."""

    model: str | None = None


class RatingRequest(msgspec.Struct, frozen=True):
    """Null takes a rating back."""

    rating: Literal["like", "unlike"] | None
    comment: str | None = None


class ForkObject(msgspec.Struct, frozen=True, kw_only=True):
    """`old_main_backup` is the branch that keeps what was there; `branch` is the active one, as before."""

    branch: str
    old_main_backup: str
    branch_created: bool = True
    user_item: shapes.ItemObject | UnsetType = UNSET
    user_item_id: str | UnsetType = UNSET
    generation_id: str | UnsetType = UNSET
    reply_id: str | UnsetType = UNSET
    data: shapes.ItemObject | UnsetType = UNSET


class ItemDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """`old_main_backup` is the branch that still has the item; `branch` is the active one, as before."""

    branch: str
    old_main_backup: str
    branch_created: bool = True
    deleted: bool = True


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


async def list_page(ask: Ask, query: ItemQuery) -> Reply:
    found = await items.listing(ask.call, ask.path["id"], query.slice(is_descending=False), query.branch)
    entries = [shapes.item(row, branch=found.branch) for row in found.items]
    return Reply(shapes.listed(entries, has_more=found.has_more, total=found.total))


async def get(ask: Ask) -> Reply:
    return _one(await items.get(ask.call, ask.path["id"], ask.path["item_id"]))


async def change(ask: Ask, wanted: ItemChange) -> Reply:
    parts, is_plain = _parts(wanted.content, "content")
    return _one(
        await items.rewrite(
            ask.call,
            ask.path["item_id"],
            parts,
            is_plain=is_plain,
            conversation_id=ask.path["id"],
            expected_version=expected(ask, wanted.expected_version),
        )
    )


async def rate(ask: Ask, wanted: RatingRequest) -> Reply:
    id, item_id = ask.path["id"], ask.path["item_id"]
    return _one(await items.rate(ask.call, item_id, wanted.rating, wanted.comment, conversation_id=id))


async def edit(ask: Ask, wanted: ItemEdit) -> Reply:
    parts, is_plain = _parts(wanted.content, "content")
    options = Options(model=wanted.model, parameters=_parameters(wanted)) if wanted.regenerate else None
    id, item_id = ask.path["id"], ask.path["item_id"]
    found = await edits.edit(ask.call, item_id, parts, options, is_plain=is_plain, conversation_id=id)
    assert found.item is not None, "an edit writes one"
    entry = shapes.item(found.item, branch=found.branch)
    return Reply(msgspec.json.encode(msgspec.structs.replace(_fork(found), user_item=entry, data=entry)))


async def regenerate(ask: Ask, wanted: Regeneration) -> Reply:
    id, item_id = ask.path["id"], ask.path["item_id"]
    if not _has_body(ask):
        return Reply(msgspec.json.encode(_fork(await edits.regenerate(ask.call, item_id, None, conversation_id=id))))
    options = Options(model=wanted.model, parameters=_parameters(wanted))
    found = await edits.regenerate_whole(ask.call, item_id, options, conversation_id=id)
    assert found.reply is not None, "one was asked for"
    entry = shapes.item(found.reply, branch=found.branch)
    return Reply(msgspec.json.encode(msgspec.structs.replace(_fork(found), data=entry)))


async def delete(ask: Ask) -> Reply:
    found = await edits.delete(ask.call, ask.path["item_id"], conversation_id=ask.path["id"])
    return deleted(ask, ItemDeleted(branch=found.branch, old_main_backup=found.backup))


def _one(found: Placed) -> Reply:
    return Reply(shapes.merged(shapes.item(found.item, branch=found.branch)), headers=tag(found.item.version))


def _fork(found: Forked) -> ForkObject:
    return ForkObject(
        branch=found.branch,
        old_main_backup=found.backup,
        user_item_id=found.asked.id if found.asked is not None else UNSET,
        generation_id=found.generation.id if found.generation is not None else UNSET,
        reply_id=found.reply.id if found.reply is not None else UNSET,
    )


def _has_body(ask: Ask) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in ask.headers
    )


def new_items(written: Sequence[NewItemObject]) -> list[NewItem]:
    """Raises InvalidInput naming the first part that is not understood."""
    return [_item(one.role, one.content, f"items[{index}].content") for index, one in enumerate(written)]


def _single(new: NewItems) -> NewItem:
    if new.role is None or new.content is None:
        missing = "role" if new.role is None else "content"
        raise InvalidInput("Give `role` and `content`, or a list of `items`", field=missing)
    return _item(new.role, new.content, "content")


def _parameters(new: Parameters) -> dict[str, object]:
    given = {name: getattr(new, name) for name in Parameters.__struct_fields__}
    return {name: value for name, value in given.items() if value is not None}


def _item(role: str, content: Content, field: str) -> NewItem:
    parts, is_plain = _parts(content, field)
    return NewItem(role, parts, is_plain=is_plain)


def _parts(content: Content, field: str) -> tuple[list[Part], bool]:
    """The parts, and whether they were written as one string."""
    if isinstance(content, str):
        return [TextPart(content)], True
    return [_part(part, f"{field}[{index}]") for index, part in enumerate(content)], False


def _part(part: Mapping[str, object], field: str) -> Part:
    kind = part.get("type")
    if not isinstance(kind, str) or kind not in _TEXTS | _IMAGES:
        raise InvalidInput(f"{field}.type must be text or image_url", field=f"{field}.type")
    if kind in _TEXTS:
        # The older format names the text after the part's type, and puts that of a model one level deeper.
        text = part.get("text", part.get(kind))
        return TextPart(_text(text.get("text") if isinstance(text, Mapping) else text, f"{field}.text"))
    image = part.get("image_url", part.get("image", part))
    if not isinstance(image, Mapping):
        return ImagePart(_text(image, f"{field}.image_url"))
    detail = image.get("detail")
    return ImagePart(
        _text(image.get("url", image.get("file_id")), f"{field}.image_url.url"),
        None if detail is None else _text(detail, f"{field}.image_url.detail"),
    )


def _text(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"{field} must be a string", field=field)
    return value
