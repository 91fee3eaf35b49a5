"""A small page for trying the graph, without a build step and without a byte from another host.

It stands at the address of the graph for a browser that asks for HTML; its files stand in a folder `playground` beside it,
and name each other relatively, so that all of it works behind any path prefix.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

FOLDER = "/playground"
PAGE = "index.html"
MEDIA_TYPES = {"css": "text/css", "html": "text/html", "js": "text/javascript"}

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class _Asset:
    body: bytes
    media_type: str
    etag: str

    def response(self, request: Request) -> Response:
        # A browser asks again each time and is told "not modified": the files are small and import each other, so none of
        # them may ever be older than the rest.
        headers = {
            "Cache-Control": "no-cache",
            "Content-Security-Policy": POLICY,
            "ETag": self.etag,
            "Vary": "Accept",
        }
        if self._is_known(request.headers.get("if-none-match", "")):
            return Response(status_code=304, headers=headers)
        return Response(self.body, headers=headers, media_type=self.media_type)

    def _is_known(self, tags: str) -> bool:
        known = [tag.strip().removeprefix("W/") for tag in tags.split(",")]
        return self.etag in known or "*" in known


def _load() -> dict[str, _Asset]:
    found = {}
    for file in (files(__package__) / "assets").iterdir():
        media_type = MEDIA_TYPES.get(file.name.rpartition(".")[2])
        if media_type is not None:
            body = file.read_bytes()
            found[file.name] = _Asset(body, media_type, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
    return found


def playground() -> ASGIApp:
    """The page, whatever the path; where it is mounted as `/playground`, the files of the page.

    The files are read once, here. Whoever opens the mounted folder itself is sent to the graph beside it.
    """
    assets = _load()

    def answer(request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("Method not allowed", 405, {"Allow": "GET, HEAD"})
        place: str = request.scope.get("root_path", "")
        if not place.endswith(FOLDER):
            return assets[PAGE].response(request)
        name = request.scope["path"].removeprefix(place).removeprefix("/")
        if not name:
            return RedirectResponse("../graphql")
        if name == PAGE or name not in assets:
            return PlainTextResponse("Not found", 404)
        return assets[name].response(request)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(Request(scope, receive))(scope, receive, send)

    return app
