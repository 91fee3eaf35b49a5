"""The files of our own pages, read once: small, without a build step, and the same in a wheel as in the source tree."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

PAGE = "index.html"
MEDIA_TYPES = {"css": "text/css", "html": "text/html", "js": "text/javascript"}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file with the policy of its page. `compressed` is the same by gzip, for whoever reads that."""

    body: bytes
    compressed: bytes
    media_type: str
    etag: str
    policy: str

    def response(self, request: Request) -> Response:
        # A browser asks again each time and is told "not modified": the files are small and import each other, so none of
        # them may ever be older than the rest. The tag is a weak one, because both forms have it.
        headers = {
            "Cache-Control": "no-cache",
            "Content-Security-Policy": self.policy,
            "ETag": f"W/{self.etag}",
            "Vary": "Accept, Accept-Encoding",
        }
        if self._is_known(request.headers.get("if-none-match", "")):
            return Response(status_code=304, headers=headers)
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(self.body, headers=headers, media_type=self.media_type)
        return Response(self.compressed, headers=headers | {"Content-Encoding": "gzip"}, media_type=self.media_type)

    def _is_known(self, tags: str) -> bool:
        known = [tag.strip().removeprefix("W/") for tag in tags.split(",")]
        return self.etag in known or "*" in known


def load(package: str, policy: str) -> dict[str, Asset]:
    """The files of a package's folder `assets`, by name."""
    found = {}
    for file in (files(package) / "assets").iterdir():
        media_type = MEDIA_TYPES.get(file.name.rpartition(".")[2])
        if media_type is not None:
            body = file.read_bytes()
            tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            found[file.name] = Asset(body, gzip.compress(body, mtime=0), media_type, tag, policy)
    return found


class Folder:
    """Serves files where it is mounted, but for the page itself, which has an address of its own."""

    def __init__(self, assets: dict[str, Asset], *, hidden: Iterable[str] = (PAGE,)) -> None:
        self._assets = {name: asset for name, asset in assets.items() if name not in set(hidden)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.answer(Request(scope, receive))(scope, receive, send)

    def answer(self, request: Request) -> Response:
        refusal = refused(request)
        if refusal is not None:
            return refusal
        asset = self._assets.get(name_in(request))
        return asset.response(request) if asset is not None else missing()


def name_in(request: Request) -> str:
    """What is asked for, below the place where the application is mounted."""
    place: str = request.scope.get("root_path", "")
    path: str = request.scope["path"]
    return path.removeprefix(place).removeprefix("/")


def refused(request: Request) -> Response | None:
    """What whoever does not merely read is told."""
    if request.method in ("GET", "HEAD"):
        return None
    return PlainTextResponse("Method not allowed", 405, {"Allow": "GET, HEAD"})


def missing() -> Response:
    return PlainTextResponse("Not found", 404)
