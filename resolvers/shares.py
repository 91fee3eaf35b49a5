"""Shares: whoever has the link reads what it shows, without signing in, and sees nothing else of its owner's.

Instructions (items of the role system) are not shown. A share that was revoked, has expired or was deleted with its
conversation is not to be told from one that never was.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from db import branches, conversations, feed, items, shares
from db.base import ReadSession, now
from db.branches import Line
from db.models import Conversation, Item, ItemStatus, Share
from resolvers.access import READ, WRITE, clean_text, require
from resolvers.call import Call
from resolvers.conversations import LONGEST_TITLE
from resolvers.errors import Forbidden, InvalidInput, NotFound
from resolvers.idempotency import Effect, Made, once
from resolvers.items import live
from resolvers.paging import LARGEST_SIZE, Listing, Page, Slice, Window, id_after, page_by_id

LONGEST_SECONDS = 10 * 366 * 24 * 3600
LARGEST_PAGE = 500
# Where the page of a share is.
PATH = "/share/"
_SCOPE = "shares"
_BASE62 = string.digits + string.ascii_letters
_SLUG = 22


@dataclass(frozen=True, slots=True)
class NewShare:
    """What to share, and how. `expires_in` in seconds. With an item, what was said before it only `includes_context`.

    `is_live`: it grows with its branch, else it ends where the branch ends now.
    """

    title: str | None = None
    branch: str | None = None
    item_id: str | None = None
    expires_in: int | None = None
    includes_images: bool = True
    includes_context: bool = False
    allows_feedback: bool = False
    is_live: bool = True


@dataclass(frozen=True, slots=True)
class Opened:
    """A share that holds: it shows the positions past+1 … until of a line."""

    share: Share
    conversation: Conversation
    line: Line
    past: int
    until: int

    @property
    def title(self) -> str | None:
        return self.share.title or self.conversation.title


@dataclass(frozen=True, slots=True)
class Shown:
    """Some of what a share shows, oldest first; `next_after` is the position after which there is more, None at the end."""

    opened: Opened
    items: Sequence[Item]
    next_after: int | None


async def create(call: Call, conversation_id: str, new: NewShare) -> Share:
    """Raises NotFound, InvalidInput."""
    require(call, WRITE)
    if new.expires_in is not None and not 1 <= new.expires_in <= LONGEST_SECONDS:
        raise InvalidInput(f"expires_in must be between 1 and {LONGEST_SECONDS} seconds", field="expiresIn")
    asked = (conversation_id, replace(new, title=_title(new.title)))
    return await once(call, "share_conversation", asked, partial(_create, call, *asked), partial(_recall, call))


async def _create(call: Call, conversation_id: str, new: NewShare, effect: Effect) -> Share:
    caller, moment = require(call, WRITE), now()
    share = Share(
        slug="".join(secrets.choice(_BASE62) for _ in range(_SLUG)),
        user_id=caller.user_id,
        conversation_id=conversation_id,
        title=new.title,
        options={
            "include_images": new.includes_images,
            "include_context_messages": new.includes_context,
            "allow_feedback": new.allows_feedback,
        },
        expires_at=moment + timedelta(seconds=new.expires_in) if new.expires_in is not None else None,
        created_at=moment,
        updated_at=moment,
    )
    async with effect.write() as session:
        conversation = await conversations.get(session, conversation_id, caller.user_id)
        if conversation is None:
            raise NotFound("conversation", conversation_id, field="conversationId")
        await _aim(session, share, conversation, new)
        session.add(share)
        await session.flush()
        feed.announce(session, caller.user_id, feed.Kind.CONVERSATION, conversation_id)
        effect.made(share=share.id)
    return share


async def _recall(call: Call, made: Made) -> Share:
    caller, id = require(call, WRITE), made.one("share")
    async with call.read() as session:
        found = (await shares.by_ids(session, [id], caller.user_id)).get(id)
    if found is None:
        raise NotFound("share", id)
    return found


async def _aim(session: ReadSession, share: Share, conversation: Conversation, new: NewShare) -> None:
    """At a branch as it grows, at what it has now, or at one answer. Raises InvalidInput."""
    share.branch = conversation.active_branch if new.branch is None else new.branch
    found = await branches.lines(session, [conversation.id], conversation.user_id, name=share.branch)
    if conversation.id not in found:
        raise InvalidInput("The conversation has no branch of this name", field="branch")
    if new.item_id is not None:
        await _check_item(session, new.item_id, conversation.id, conversation.user_id)
        share.item_id = new.item_id
    elif not new.is_live:
        share.branch_id, share.until_position = found[conversation.id].branch_id, found[conversation.id].length


async def listing(call: Call, part: Slice, *, includes_revoked: bool = False) -> Listing[Share]:
    """The caller's, the newest first, past the one named by `after`; an offset is not offered.

    Raises InvalidInput when `after` is no share of the caller's.
    """
    caller = require(call, READ)
    async with call.read() as session:
        if part.after is not None and not await shares.by_ids(session, [part.after], caller.user_id):
            raise InvalidInput("after must be the id of a share of yours", field="after")
        rows = await shares.of_user(
            session, caller.user_id, part.after, part.limit + 1, includes_revoked=includes_revoked
        )
        total = await shares.count(session, caller.user_id, includes_revoked=includes_revoked)
    return Listing(rows[: part.limit], len(rows) > part.limit, total)


async def page(call: Call, window: Window) -> Page[Share]:
    """The same by cursor, forwards, revoked ones too. Raises InvalidInput for a cursor of another list."""
    caller = require(call, READ)
    scope = f"{_SCOPE}|{caller.user_id}"
    after = id_after(call.services.cursors, scope, window)
    async with call.read() as session:
        rows = await shares.of_user(session, caller.user_id, after, window.size + 1, includes_revoked=True)
    return page_by_id(call.services.cursors, scope, window, rows)


async def by_ids(call: Call, ids: Sequence[str]) -> list[Share | None]:
    caller = require(call, READ)
    async with call.read() as session:
        found = await shares.by_ids(session, ids, caller.user_id)
    return [found.get(id) for id in ids]


async def by_conversations(call: Call, conversation_ids: Sequence[str]) -> list[list[Share]]:
    """All of each conversation, revoked ones too, the newest first; none where a conversation is another's."""
    caller = require(call, READ)
    async with call.read() as session:
        found = await shares.by_conversations(session, conversation_ids, caller.user_id)
    return [found.get(id, []) for id in conversation_ids]


async def of_conversation(call: Call, conversation_id: str) -> list[Share]:
    """Raises NotFound."""
    caller = require(call, READ)
    async with call.read() as session:
        if await conversations.get(session, conversation_id, caller.user_id) is None:
            raise NotFound("conversation", conversation_id)
        found = await shares.by_conversations(session, [conversation_id], caller.user_id)
    return found.get(conversation_id, [])


async def revoke(call: Call, id: str, *, conversation_id: str | None = None) -> Share:
    """For good; whoever watches is cut off within seconds. `conversation_id` must be the share's if given. Raises NotFound."""
    caller = require(call, WRITE)
    async with call.write() as session:
        found = await shares.revoke(session, id, caller.user_id, now())
        if found is None or conversation_id not in (None, found.conversation_id):
            raise NotFound("share", id, field="id")
        feed.announce(session, caller.user_id, feed.Kind.CONVERSATION, found.conversation_id)
    return found


async def retitle(call: Call, id: str, title: str | None, *, conversation_id: str | None = None) -> Share:
    """Without a title it bears that of its conversation. Raises NotFound, InvalidInput."""
    caller = require(call, WRITE)
    title = _title(title)
    async with call.write() as session:
        found = await shares.retitle(session, id, caller.user_id, title, now())
        if found is None or conversation_id not in (None, found.conversation_id):
            raise NotFound("share", id, field="id")
        feed.announce(session, caller.user_id, feed.Kind.CONVERSATION, found.conversation_id)
    return found


async def look(call: Call, slug: str, after: int = 0, limit: int = LARGEST_PAGE) -> Shown:
    """What a share shows past a position, for anybody; its beginning is counted as a view. Raises NotFound, InvalidInput."""
    if after < 0:
        raise InvalidInput("after must be a position", field="after")
    if not 1 <= limit <= LARGEST_PAGE:
        raise InvalidInput(f"limit must be between 1 and {LARGEST_PAGE}", field="limit")
    async with call.read() as session:
        found = await opened(session, slug)
        shown = await items_of(call, session, found, after, limit)
    if not after:
        call.services.views.note(found.share.id)
    return shown


async def open_for(call: Call, slug: str) -> Opened:
    """What anybody who has the link may read, counted as a view. Raises NotFound."""
    async with call.read() as session:
        found = await opened(session, slug)
    call.services.views.note(found.share.id)
    return found


async def page_of(call: Call, found: Opened, window: Window) -> Page[Item]:
    """What a share shows, forwards. Raises InvalidInput for a cursor of another share."""
    scope, cursors = f"shared|{found.share.id}", call.services.cursors
    after: int | None = 0 if window.cursor is None else int(cursors.read(scope, window.cursor)[0])
    rows: list[Item] = []
    async with call.read() as session:
        # What is not shown leaves holes, so there may be more to read than one page's positions.
        while after is not None and len(rows) <= window.size:
            shown = await items_of(call, session, found, after, LARGEST_SIZE + 1)
            rows += shown.items
            after = shown.next_after
    nodes = rows[: window.size]
    made = [cursors.make(scope, [row.position]) for row in nodes]
    return Page(nodes, made, has_next=len(rows) > window.size, has_previous=window.cursor is not None)


async def opened(session: ReadSession, slug: str) -> Opened:
    """Raises NotFound, the same for whatever reason."""
    row = await shares.opened(session, slug, now())
    found = await _line(session, *row) if row is not None else None
    if found is None:
        raise NotFound("share", slug, field="slug")
    return found


async def items_of(call: Call, session: ReadSession, found: Opened, after: int, limit: int) -> Shown:
    past = max(found.past, after)
    until = min(found.until, past + limit)
    [rows] = await items.in_ranges(session, [(found.line, past, until)])
    # What tools gave may be of more than the conversation.
    shown = [row for row in live(call, rows) if row.role not in ("system", "tool")]
    if not option(found.share, "include_images"):
        for row in shown:
            row.content = [part for part in row.content if part["type"] != "image"]
    return Shown(found, shown, until if until < found.until else None)


async def rate(call: Call, slug: str, *, is_liked: bool) -> None:
    """Counts what somebody thinks of a share, not who. Raises NotFound, Forbidden where the owner does not ask for it."""
    async with call.read() as session:
        found = await opened(session, slug)
    if not option(found.share, "allow_feedback"):
        raise Forbidden("This share takes no feedback")
    async with call.write() as session:
        await shares.rate(session, found.share.id, is_liked=is_liked)


def option(share: Share, name: str) -> bool:
    """One of those that a share was made with."""
    return bool(share.options.get(name, False))


def is_live(share: Share) -> bool:
    return share.branch_id is None and share.item_id is None


async def _line(session: ReadSession, share: Share, conversation: Conversation) -> Opened | None:
    """What the share shows now; None when what it showed is gone."""
    owner, id = conversation.user_id, conversation.id
    if share.item_id is not None:
        item = (await items.by_ids(session, [share.item_id], owner)).get(share.item_id)
        line = await branches.line_of(session, item.branch_id, id, owner) if item is not None else None
        if item is None or line is None:
            return None
        has_context = option(share, "include_context_messages")
        return Opened(share, conversation, line, 0 if has_context else item.position - 1, item.position)
    if share.branch_id is not None:
        line = await branches.line_of(session, share.branch_id, id, owner)
        if line is None or share.until_position is None:
            return None
        return Opened(share, conversation, line, 0, min(share.until_position, line.length))
    line = (await branches.lines(session, [id], owner, name=share.branch)).get(id)
    return Opened(share, conversation, line, 0, line.length) if line is not None else None


async def _check_item(session: ReadSession, id: str, conversation_id: str, user_id: str) -> None:
    found = (await items.by_ids(session, [id], user_id)).get(id)
    if found is None or found.conversation_id != conversation_id:
        raise InvalidInput("item_id must be an item of this conversation", field="itemId")
    if found.role != "assistant" or found.status != ItemStatus.COMPLETED:
        raise InvalidInput("Only an answer that is whole can be shared by itself", field="itemId")


def _title(title: str | None) -> str | None:
    if title is None:
        return None
    return clean_text(title, "title", limit=LONGEST_TITLE).strip() or None
