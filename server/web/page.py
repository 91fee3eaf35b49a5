"""The console: one page at the root for people with a browser, in plain modules that a browser reads as they are.

Its files stand in a folder `console` beside it and name each other relatively, so that it works behind any path prefix.
Whoever does not ask for HTML is told what every other unknown path tells.
"""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from graph.negotiation import wants_page
from server.assets import PAGE, Folder, load

# Nothing inline, nothing evaluated, nothing from elsewhere; and no text may become markup by whatever mistake of ours.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


class Console:
    """The page at the address where it is routed; `files` are for the folder beside it."""

    def __init__(self) -> None:
        assets = load(__package__, POLICY)
        self._page = assets[PAGE]
        self.files = Folder(assets)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        if request.method not in ("GET", "HEAD") or not wants_page(request.headers.get("accept", "")):
            raise HTTPException(404)
        await self._page.response(request)(scope, receive, send)
