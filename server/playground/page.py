"""The page at the address of the graph, for a browser that asks for HTML; without a byte from another host.

It is GraphiQL where `make assets` has built it, else a small page of our own, which stands at `?plain` in any case. The files
of both stand in a folder `playground` beside the page, and name each other relatively: all of it works behind any path prefix.
"""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from server.assets import PAGE, Folder, load, name_in, refused
from server.playground.graphiql import BUILT, Bundle

FOLDER = "/playground"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Playground:
    """The page, whatever the path; where it is mounted as `/playground`, the files of the page.

    Whoever opens the mounted folder itself is sent to the graph beside it.
    """

    def __init__(self, built: Path = BUILT) -> None:
        self._small = load(__package__, POLICY)
        self._folder = Folder(self._small)
        self._bundle = Bundle.found(built)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        place: str = scope.get("root_path", "")
        request = Request(scope, receive)
        answer = refused(request) or (self._file(request) if place.endswith(FOLDER) else self._page(request))
        await answer(scope, receive, send)

    def _page(self, request: Request) -> Response:
        if self._bundle is None or "plain" in request.query_params:
            return self._small[PAGE].response(request)
        return self._bundle.page()

    def _file(self, request: Request) -> Response:
        name = name_in(request)
        if not name:
            return RedirectResponse("../graphql")
        found = self._bundle.file(name, request) if self._bundle is not None else None
        return found or self._folder.answer(request)
