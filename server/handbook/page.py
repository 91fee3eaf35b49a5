"""The REST reference as a page: `/openapi.json` made readable, without a build step and without a byte from another host."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

PAGE = "index.html"
MEDIA_TYPES = {"css": "text/css", "html": "text/html", "js": "text/javascript"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def handbook() -> ASGIApp:
    """To be mounted in a folder. The files are read once, here; they name each other relatively."""
    found = {file.name: file.read_bytes() for file in (files(__package__) / "assets").iterdir() if file.is_file()}
    assets = {name: body for name, body in found.items() if _media_type(name)}

    def answer(request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("Method not allowed", 405, {"Allow": "GET, HEAD"})
        place: str = request.scope.get("root_path", "")
        name = request.scope["path"].removeprefix(place).removeprefix("/") or PAGE
        body = assets.get(name)
        if body is None:
            return PlainTextResponse("Not found", 404)
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = {"Cache-Control": "no-cache", "Content-Security-Policy": POLICY, "ETag": tag}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type=_media_type(name))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(Request(scope, receive))(scope, receive, send)

    return app


def _media_type(name: str) -> str | None:
    return MEDIA_TYPES.get(name.rpartition(".")[2])
