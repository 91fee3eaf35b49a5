"""Shares, for their owners, and for whoever has the link: as JSON, as a page for people, as events."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Literal

import msgspec
from msgspec import UNSET

from db.models import Share
from resolvers import forks, shares, viewing
from resolvers.errors import InvalidInput, NotFound
from resolvers.paging import DEFAULT_SIZE, Slice
from resolvers.shares import LARGEST_PAGE, NewShare, Shown
from rest_compat import shapes, share_page
from rest_compat.endpoint import Ask, Reply, Stream
from rest_compat.shapes import JsonObject
from rest_compat.shared import PublicShare, PublicSnapshot, public_item, sight
from rest_compat.versions import deleted

PUBLIC_PATH = "/v1/public/shares/"
_SILENCE = b":\n\n"
# Links are secrets that may be taken back at any moment.
_PRIVATE = ((b"cache-control", b"no-store"), (b"x-robots-tag", b"noindex"), (b"vary", b"accept"))


class ShareRequest(msgspec.Struct, frozen=True):
    """What to share and how: all of a branch, or (with `item_id`) one answer; `expires_in` in seconds, for ever without. A share can only be read. One that is not `live`
    ends where its branch ends now."""

    scope: Literal["conversation", "item"] | None = None
    item_id: str | None = None
    title: str | None = None
    branch: str | None = None
    include_images: bool = True
    include_context_messages: bool = False
    expires_in: int | None = None
    read_only: bool = True
    allow_feedback: bool = False
    live: bool = True


class ShareQuery(msgspec.Struct, frozen=True):
    """`limit` 1 … 100. `after` (or `cursor`) is the id of the last share seen."""

    limit: int = DEFAULT_SIZE
    after: str | None = None
    cursor: str | None = None
    include_revoked: bool = False


class ShareTitle(msgspec.Struct, frozen=True):
    """Null gives it the title of its conversation."""

    title: str | None


class ViewQuery(msgspec.Struct, frozen=True):
    """What comes after a position: at most `limit` (1 … 500) places of the conversation."""

    after: int = 0
    limit: int = LARGEST_PAGE


class Feedback(msgspec.Struct, frozen=True):
    rating: Literal["like", "unlike"]


class FeedbackCounted(msgspec.Struct, frozen=True):
    object: Literal["share.feedback"] = "share.feedback"
    counted: bool = True


class ShareObject(msgspec.Struct, frozen=True, kw_only=True):
    """Moments are Unix seconds, but for `expires_at`, which is written out. `title` is null where it bears its conversation's."""

    id: str
    object: Literal["share"] = "share"
    slug: str
    share_url: str
    share_link: str
    share_token: str
    conversation_id: str
    branch: str
    item_id: str | None
    title: str | None
    visibility: Literal["unlisted"] = "unlisted"
    view_count: int
    last_viewed_at: int | None
    snapshot_version: int = 1
    share_options: JsonObject
    read_only: bool = True
    allow_feedback: bool
    live: bool
    like_count: int
    unlike_count: int
    expires_at: str | None
    revoked_at: int | None
    created_at: int
    updated_at: int


class ShareList(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[ShareObject]
    first_id: str
    last_id: str
    has_more: bool
    total: int


async def create(ask: Ask, asked: ShareRequest) -> Reply:
    if not asked.read_only:
        raise InvalidInput("A share can only be read; viewers fork it to write", field="read_only")
    if asked.scope == "item" and asked.item_id is None:
        raise InvalidInput("item_id is missing", field="item_id")
    new = NewShare(
        title=asked.title,
        branch=asked.branch,
        item_id=asked.item_id if asked.scope != "conversation" else None,
        expires_in=asked.expires_in,
        includes_images=asked.include_images,
        includes_context=asked.include_context_messages,
        allows_feedback=asked.allow_feedback,
        is_live=asked.live,
    )
    return Reply(shapes.merged(_share(ask, await shares.create(ask.call, ask.path["id"], new))), 201)


async def list_all(ask: Ask, query: ShareQuery) -> Reply:
    part = Slice(query.limit, after=query.after or query.cursor)
    found = await shares.listing(ask.call, part, includes_revoked=query.include_revoked)
    return _list([_share(ask, row) for row in found.items], has_more=found.has_more, total=found.total)


async def list_of_conversation(ask: Ask) -> Reply:
    rows = await shares.of_conversation(ask.call, ask.path["id"])
    return _list([_share(ask, row) for row in rows], has_more=False, total=len(rows))


async def retitle(ask: Ask, asked: ShareTitle) -> Reply:
    row = await shares.retitle(ask.call, ask.path["share_id"], asked.title, conversation_id=ask.path.get("id"))
    return Reply(shapes.merged(_share(ask, row)))


async def revoke(ask: Ask) -> Reply:
    row = await shares.revoke(ask.call, ask.path["share_id"], conversation_id=ask.path.get("id"))
    return deleted(ask, shapes.Deleted(id=row.id, object="share.deleted"))


async def look(ask: Ask, query: ViewQuery) -> Reply:
    """As a page where HTML is asked for, else as JSON."""
    return await _look(ask, query, f"{ask.path['slug']}/events")


async def look_at_page(ask: Ask, query: ViewQuery) -> Reply:
    """The same at the short address."""
    return await _look(ask, query, f"..{PUBLIC_PATH}{ask.path['slug']}/events")


async def _look(ask: Ask, query: ViewQuery, events: str) -> Reply:
    is_page = any(b"text/html" in value for name, value in ask.headers if name == b"accept")
    try:
        shown = await shares.look(ask.call, ask.path["slug"], query.after, query.limit)
    except NotFound:
        if not is_page:
            raise
        return Reply(share_page.missing(), 404, (*_PRIVATE, share_page.POLICY), share_page.MEDIA_TYPE)
    if is_page:
        return Reply(share_page.page(shown, events), 200, (*_PRIVATE, share_page.POLICY), share_page.MEDIA_TYPE)
    return Reply(shapes.merged(_public(shown)), headers=_PRIVATE)


def _public(shown: Shown) -> PublicShare:
    found = shown.opened
    snapshot = PublicSnapshot(
        title=found.title,
        created_at=int(found.conversation.created_at.timestamp()),
        items=[public_item(row) for row in shown.items],
    )
    return PublicShare(
        slug=found.share.slug,
        title=found.title,
        created_at=int(found.share.created_at.timestamp()),
        expires_at=shapes.moment(found.share.expires_at) if found.share.expires_at is not None else UNSET,
        live=shares.is_live(found.share),
        allow_feedback=shares.option(found.share, "allow_feedback"),
        has_more=shown.next_after is not None,
        next_after=shown.next_after if shown.next_after is not None else UNSET,
        snapshot=snapshot,
    )


async def events(ask: Ask, query: ViewQuery) -> Stream:
    """Resumes after the position that the browser has seen last."""
    header = next((value for name, value in ask.headers if name == b"last-event-id"), b"")
    after = int(header) if header.isdigit() and len(header) < len("1000000000") else query.after
    sights = await viewing.watch(ask.call, ask.path["slug"], after)
    return Stream(_SILENCE, _pieces(sights))


async def fork(ask: Ask) -> Reply:
    made = await forks.create(ask.call, ask.path["slug"])
    return Reply(shapes.merged(shapes.conversation(made)), 201)


async def rate(ask: Ask, asked: Feedback) -> Reply:
    await shares.rate(ask.call, ask.path["slug"], is_liked=asked.rating == "like")
    return Reply(shapes.merged(FeedbackCounted()))


async def _pieces(sights: AsyncGenerator[viewing.Sight]) -> AsyncGenerator[bytes]:
    async with contextlib.aclosing(sights):
        async for seen in sights:
            yield _SILENCE if isinstance(seen, viewing.Quiet) else sight(seen)


def _list(entries: list[ShareObject], *, has_more: bool, total: int) -> Reply:
    answer = ShareList(
        data=entries,
        first_id=entries[0].id if entries else "",
        last_id=entries[-1].id if entries else "",
        has_more=has_more,
        total=total,
    )
    return Reply(msgspec.json.encode(answer))


def _share(ask: Ask, row: Share) -> ShareObject:
    base = ask.base
    return ShareObject(
        id=row.id,
        slug=row.slug,
        share_url=base + PUBLIC_PATH + row.slug,
        share_link=base + shares.PATH + row.slug,
        share_token=row.slug,
        conversation_id=row.conversation_id,
        branch=row.branch,
        item_id=row.item_id,
        title=row.title,
        view_count=row.view_count,
        last_viewed_at=int(row.last_viewed_at.timestamp()) if row.last_viewed_at is not None else None,
        share_options={name: shares.option(row, name) for name in ("include_images", "include_context_messages")},
        allow_feedback=shares.option(row, "allow_feedback"),
        live=shares.is_live(row),
        like_count=row.like_count,
        unlike_count=row.unlike_count,
        expires_at=shapes.moment(row.expires_at) if row.expires_at is not None else None,
        revoked_at=int(row.revoked_at.timestamp()) if row.revoked_at is not None else None,
        created_at=int(row.created_at.timestamp()),
        updated_at=int(row.updated_at.timestamp()),
    )
