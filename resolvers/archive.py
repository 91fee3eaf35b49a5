"""The lines of an account's archive: JSON objects, one a line, told apart by `type`.

A conversation's line stands before those of its branches and items. No secret is in any of them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from db.models import Branch, Conversation, Generation, Item, Project, User
from engine.events import ErrorCode, FinishReason, Provenance

JsonObject = dict[str, object]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class UserLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="user"):
    id: str
    email: str | None = None
    role: str | None = None
    display_name: str | None = None
    preferred_model: str | None = None
    preferences: JsonObject = {}
    settings: JsonObject = {}
    created_at: datetime | None = None


class ProjectLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="project"):
    id: str
    name: str
    instruction: str | None = None
    is_favorite: bool = False
    archived_at: datetime | None = None
    created_at: datetime
    updated_at: datetime


class ConversationLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="conversation"):
    id: str
    title: str | None = None
    is_title_own: bool = False
    metadata: JsonObject = {}
    project_id: str | None = None
    referrer: str | None = None
    is_archived: bool = False
    active_branch: str
    created_at: datetime
    updated_at: datetime


class BranchLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="branch"):
    """`fork_position`: how many items of its parent it stands on."""

    id: str
    conversation_id: str
    name: str
    parent_id: str | None = None
    fork_position: int = 0
    created_at: datetime


class RunObject(msgspec.Struct, frozen=True, kw_only=True):
    """The run of a model that wrote an item."""

    model: str
    provider: str
    status: str
    finish_reason: FinishReason | None = None
    error_code: ErrorCode | None = None
    error_message: str | None = None
    error_is_retryable: bool | None = None
    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    usage_provenance: Provenance | None = None
    created_at: datetime
    finished_at: datetime | None = None


class ItemLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="item"):
    """`position` counts along the branch, what it stands on included."""

    id: str
    conversation_id: str
    branch_id: str
    position: int
    item_type: str = "message"
    role: str
    status: str
    content: list[JsonObject]
    is_plain: bool = True
    rating: str | None = None
    rating_comment: str | None = None
    generation: RunObject | None = None
    created_at: datetime
    updated_at: datetime


Line = UserLine | ProjectLine | ConversationLine | BranchLine | ItemLine

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


def written(line: Line) -> bytes:
    return _encode(line) + b"\n"


def read(line: bytes) -> Line:
    """Raises msgspec.MsgspecError for anything else, and UnicodeDecodeError."""
    found: Line = _decode(line)
    return found


def user_line(row: User, settings: JsonObject) -> UserLine:
    return UserLine(
        id=row.id,
        email=row.email,
        role=row.role,
        display_name=row.display_name,
        preferred_model=row.preferred_model,
        preferences=row.preferences,
        settings=settings,
        created_at=row.created_at,
    )


def project_line(row: Project) -> ProjectLine:
    return ProjectLine(
        id=row.id,
        name=row.name,
        instruction=row.instruction,
        is_favorite=row.is_favorite,
        archived_at=row.archived_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def conversation_line(row: Conversation) -> ConversationLine:
    return ConversationLine(
        id=row.id,
        title=row.title,
        is_title_own=row.is_title_own,
        metadata=row.details,
        project_id=row.project_id,
        referrer=row.referrer,
        is_archived=row.is_archived,
        active_branch=row.active_branch,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def branch_line(row: Branch) -> BranchLine:
    return BranchLine(
        id=row.id,
        conversation_id=row.conversation_id,
        name=row.name,
        parent_id=row.parent_id,
        fork_position=row.fork_position,
        created_at=row.created_at,
    )


def item_line(row: Item, run: Generation | None) -> ItemLine:
    return ItemLine(
        id=row.id,
        conversation_id=row.conversation_id,
        branch_id=row.branch_id,
        position=row.position,
        item_type=row.type,
        role=row.role,
        status=row.status,
        content=row.content,
        is_plain=row.is_plain,
        rating=row.rating,
        rating_comment=row.rating_comment,
        generation=_run(run) if run is not None else None,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _run(row: Generation) -> RunObject:
    return RunObject(
        model=row.model,
        provider=row.provider,
        status=row.status,
        finish_reason=FinishReason(row.finish_reason) if row.finish_reason is not None else None,
        error_code=ErrorCode(row.error_code) if row.error_code is not None else None,
        error_message=row.error_message,
        error_is_retryable=row.error_is_retryable,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        usage_provenance=Provenance(row.usage_provenance) if row.usage_provenance is not None else None,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )
