"""The book of who did what to whose: a line is written in the transaction that does it, and read by administrators."""

from __future__ import annotations

from db import audit
from db.base import WriteSession
from db.models import AuditRecord
from resolvers.access import ADMIN, require
from resolvers.call import Call
from resolvers.paging import Page, Window, id_after, page_by_id

_SCOPE = "audit"


def record(
    session: WriteSession,
    call: Call | None,
    action: str,
    target_id: str | None = None,
    *,
    actor_id: str | None = None,
    **details: object,
) -> None:
    """`action` is `noun.verb`; `details` hold no secret and no content. The actor is the caller unless another is named;
    nobody where the operator acts at the machine itself."""
    if actor_id is None and call is not None and call.caller is not None:
        actor_id = call.caller.user_id
    request_id = call.request_id or None if call is not None else None
    found = AuditRecord(actor_id=actor_id, action=action, target_id=target_id, details=details, request_id=request_id)
    session.add(found)


async def page(call: Call, window: Window) -> Page[AuditRecord]:
    """The newest first, for administrators. Raises Unauthenticated, Forbidden, and InvalidInput for a foreign cursor."""
    require(call, ADMIN)
    cursors = call.services.cursors
    before = id_after(cursors, _SCOPE, window)
    async with call.read() as session:
        rows = await audit.page(session, before, window.size + 1)
    return page_by_id(cursors, _SCOPE, window, rows)
