"""The objects of the documented routes, and how they are made from rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Generic, Literal, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from db.models import MAIN, TOOL_CALL, ApiKey, Conversation, Item, Project, ProviderKey
from resolvers import api_keys
from resolvers.branches import Lineage
from resolvers.paging import Listing
from rest_compat.tool_shapes import CallFields, call_fields, kind, result_parts

JsonObject = dict[str, object]
SCHEME = "Bearer"


class ConversationObject(msgspec.Struct, frozen=True, kw_only=True):
    """`version` counts the changes of the conversation itself. `created_at` and `updated_at` in Unix seconds. `items` are
    the newest, oldest first; `item_count` counts all."""

    id: str
    object: Literal["conversation"] = "conversation"
    title: str | None
    metadata: JsonObject
    referrer: str | UnsetType = UNSET
    project_id: str | UnsetType = UNSET
    is_archived: bool
    version: int
    active_branch: str
    created_at: int
    updated_at: int
    search_snippet: str | UnsetType = UNSET
    item_count: int | UnsetType = UNSET
    items: list[ItemObject] | UnsetType = UNSET


class ProjectObject(msgspec.Struct, frozen=True, kw_only=True):
    """Times in Unix seconds."""

    id: str
    object: Literal["project"] = "project"
    name: str
    instruction: str | UnsetType = UNSET
    is_favorite: bool
    is_archived: bool
    archived_at: int | UnsetType = UNSET
    created_at: int
    updated_at: int


class BranchObject(msgspec.Struct, frozen=True, kw_only=True):
    """`item_count` counts all items along it. Times in Unix seconds; `forked_at` where it has a parent."""

    name: str
    object: Literal["conversation.branch"] = "conversation.branch"
    parent_branch: str | UnsetType = UNSET
    fork_position: int | UnsetType = UNSET
    forked_at: int | UnsetType = UNSET
    item_count: int
    created_at: int
    updated_at: int
    is_active: bool


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """`object` tells what was deleted: `conversation.deleted`."""

    id: str
    object: str
    deleted: bool = True


class ManyDeleted(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["conversations.deleted"] = "conversations.deleted"
    deleted: bool = True
    deleted_count: int


class ItemObject(CallFields, frozen=True, kw_only=True):
    """`content` is a string where it was written as one or generated, else the parts in the chat format."""

    id: str
    object: Literal["conversation.item"] = "conversation.item"
    conversation_id: str
    branch: str
    sequence_number: int
    type: str
    role: str
    status: str
    content: str | list[JsonObject]
    content_text: str
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[JsonObject] | UnsetType = UNSET
    generation_id: str | None
    reply_id: str | UnsetType = UNSET
    version: int
    rating: str | UnsetType = UNSET
    rating_comment: str | UnsetType = UNSET
    created_at: str
    updated_at: str


class ApiKeyObject(msgspec.Struct, frozen=True, kw_only=True):
    """`prefix` and `suffix` are the beginning and the end of the key. `key`, the whole of it, is there once: when it is made."""

    id: str
    object: Literal["api_key"] = "api_key"
    name: str
    prefix: str
    suffix: str
    scopes: list[str]
    status: str
    is_active: bool
    created_at: str
    expires_at: str | None
    last_used_at: str | None
    revoked_at: str | None
    key: str | UnsetType = UNSET


class ProviderKeyObject(msgspec.Struct, frozen=True, kw_only=True):
    """`origin` is the one place that the key is sent to."""

    id: str
    object: Literal["provider_key"] = "provider_key"
    provider: str
    credential_type: str
    masked_key: str
    origin: str
    created_at: str


class SignIn(msgspec.Struct, frozen=True, kw_only=True):
    """`expires_in`: seconds until the access token ends."""

    user_id: str
    username: str
    principal_id: str
    access_token: str
    refresh_token: str
    token_type: str = SCHEME
    expires_in: int


class Upgraded(SignIn, frozen=True, kw_only=True):
    status: str = "upgraded"


class Renewed(msgspec.Struct, frozen=True, kw_only=True):
    access_token: str
    refresh_token: str
    token_type: str = SCHEME
    expires_in: int
    expires_at: str


class UserObject(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    username: str
    email: str | None
    display_name: str | None
    is_admin: bool


class ProfileObject(UserObject, frozen=True, kw_only=True):
    preferred_model: str | None
    preferences: JsonObject
    role: str
    created_at: str


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """`token` is the access token, as one family of documents calls it."""

    token: str
    user: UserObject
    access_token: str
    refresh_token: str
    token_type: str = SCHEME
    expires_in: int


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    username: str
    email: str | None
    subject: str
    auth_method: str
    name: str
    roles: list[str]
    is_admin: bool


class Validity(msgspec.Struct, frozen=True, kw_only=True):
    valid: bool = True
    user_info: Identity


class Message(msgspec.Struct, frozen=True):
    message: str


class Status(msgspec.Struct, frozen=True):
    status: str


E = TypeVar("E", bound=ConversationObject | ItemObject | ApiKeyObject | ProviderKeyObject | ProjectObject)


class List(msgspec.Struct, Generic[E], frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[E]
    first_id: str
    last_id: str
    has_more: bool
    total: int
    items: list[E] | UnsetType = UNSET


def merged(entry: msgspec.Struct) -> bytes:
    """The object, and the same object once more as `data`: the two places where clients look for it."""
    once = msgspec.json.encode(entry)
    return b'%b,"data":%b}' % (once[:-1], once)


def listed(entries: Sequence[E], *, has_more: bool, total: int, is_named_items: bool = False) -> bytes:
    data = list(entries)
    return msgspec.json.encode(
        List(
            data=data,
            first_id=data[0].id if data else "",
            last_id=data[-1].id if data else "",
            has_more=has_more,
            total=total,
            items=data if is_named_items else UNSET,
        )
    )


def conversation(row: Conversation, newest: Listing[Item] | None = None) -> ConversationObject:
    return ConversationObject(
        id=row.id,
        title=row.title,
        metadata=row.details,
        referrer=row.referrer or UNSET,
        project_id=row.project_id or UNSET,
        is_archived=row.is_archived,
        version=row.version,
        active_branch=row.active_branch,
        created_at=int(row.created_at.timestamp()),
        updated_at=int(row.updated_at.timestamp()),
        item_count=UNSET if newest is None else newest.total,
        items=UNSET if newest is None else [item(one, branch=row.active_branch) for one in newest.items],
    )


def item(row: Item, *, branch: str = MAIN, generation_id: str | None = None, reply_id: str | None = None) -> ItemObject:
    """As it is read along this branch. `generation_id` and `reply_id` tell of the reply that this message has started."""
    reasoning = "".join(str(part["text"]) for part in row.content if part["type"] == "reasoning")
    is_call = row.type == TOOL_CALL
    calls = [_tool_call(part) for part in row.content if part["type"] == "tool_call" and not is_call]
    text = row.text
    parts = result_parts(row) if is_call else [_part(part) for part in row.content]
    return ItemObject(
        id=row.id,
        conversation_id=row.conversation_id,
        branch=branch,
        sequence_number=row.position,
        type=kind(row),
        role=row.role,
        status=row.status,
        content=text if row.is_plain and not is_call else parts,
        content_text=text,
        reasoning_content=reasoning or UNSET,
        tool_calls=calls or UNSET,
        generation_id=generation_id or row.generation_id,
        reply_id=reply_id or UNSET,
        version=row.version,
        rating=row.rating or UNSET,
        rating_comment=row.rating_comment or UNSET,
        created_at=moment(row.created_at),
        updated_at=moment(row.updated_at),
        **call_fields(row),
    )


def branch(found: Lineage) -> BranchObject:
    row = found.branch
    made = int(row.created_at.timestamp())
    return BranchObject(
        name=row.name,
        parent_branch=found.parent or UNSET,
        fork_position=row.fork_position if found.parent else UNSET,
        forked_at=made if found.parent else UNSET,
        item_count=row.length,
        created_at=made,
        updated_at=made,
        is_active=found.is_active,
    )


def project(row: Project) -> ProjectObject:
    return ProjectObject(
        id=row.id,
        name=row.name,
        instruction=row.instruction or UNSET,
        is_favorite=row.is_favorite,
        is_archived=row.archived_at is not None,
        archived_at=int(row.archived_at.timestamp()) if row.archived_at is not None else UNSET,
        created_at=int(row.created_at.timestamp()),
        updated_at=int(row.updated_at.timestamp()),
    )


def api_key(row: ApiKey, key: str | None = None) -> ApiKeyObject:
    """With `key`, the whole of one that has just been made."""
    status = api_keys.status(row)
    return ApiKeyObject(
        id=row.id,
        name=row.name,
        prefix=row.prefix,
        suffix=row.suffix,
        scopes=row.scopes,
        status=status,
        is_active=status is api_keys.KeyStatus.ACTIVE,
        created_at=moment(row.created_at),
        expires_at=_moment_or_none(row.expires_at),
        last_used_at=_moment_or_none(row.last_used_at),
        revoked_at=_moment_or_none(row.revoked_at),
        key=key if key is not None else UNSET,
    )


def provider_key(row: ProviderKey) -> ProviderKeyObject:
    return ProviderKeyObject(
        id=row.id,
        provider=row.provider,
        credential_type=row.credential_type,
        masked_key=f"...{row.hint}",
        origin=row.origin,
        created_at=moment(row.created_at),
    )


def _part(part: JsonObject) -> JsonObject:
    if part["type"] != "image":
        return part
    image = {name: part[name] for name in ("url", "detail") if name in part}
    return {"type": "image_url", "image_url": image}


def _tool_call(part: JsonObject) -> JsonObject:
    function = {"name": part["name"], "arguments": part["arguments"]}
    return {"id": part["id"], "type": "function", "function": function}


def _moment_or_none(value: datetime | None) -> str | None:
    return moment(value) if value is not None else None


def moment(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
