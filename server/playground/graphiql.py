"""GraphiQL as `make assets` has built it: many files, named by what is in them, that stay on the disk until they are asked for."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

BUILT = Path(__file__).parent / "built"
PAGE = "index.html"
MEDIA_TYPES = {"css": "text/css", "js": "text/javascript", "ttf": "font/ttf", "txt": "text/plain"}
_NONCE = "NONCE"
# The editor places its lines by `style` attributes in markup; whole <style> elements are let in by the nonce of the answer.
POLICY = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; connect-src 'self'; font-src 'self' data:; "
    "img-src 'self' data:; style-src 'self'; style-src-elem 'self' 'nonce-{nonce}'; style-src-attr 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# A worker has the policy of its own file.
FILE_POLICY = "default-src 'none'; script-src 'self'"
# The names change with what is in them.
KEPT = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Bundle:
    """The page with a place for the nonce, and the files beside it. `names` are all there are."""

    folder: Path
    template: str
    names: frozenset[str]

    @classmethod
    def found(cls, folder: Path) -> Bundle | None:
        """None where it was not built."""
        page = folder / PAGE
        if not page.exists():
            return None
        names = frozenset(file.name for file in folder.iterdir()) - {PAGE}
        return cls(folder, page.read_text(encoding="utf-8"), names)

    def page(self) -> Response:
        nonce = secrets.token_urlsafe(18)
        headers = {
            "Cache-Control": "no-store",
            "Content-Security-Policy": POLICY.format(nonce=nonce),
            "Vary": "Accept",
        }
        return HTMLResponse(self.template.replace(_NONCE, nonce), headers=headers)

    def file(self, name: str, request: Request) -> Response | None:
        """None for one that is not there."""
        media_type = MEDIA_TYPES.get(name.rpartition(".")[2])
        if name not in self.names or media_type is None:
            return None
        headers = {"Cache-Control": KEPT, "Content-Security-Policy": FILE_POLICY, "Vary": "Accept-Encoding"}
        path = self.folder / name
        if f"{name}.gz" in self.names and "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
            path = self.folder / f"{name}.gz"
        # Built anew since this process has started.
        if not path.is_file():
            return None
        return FileResponse(path, headers=headers, media_type=media_type)
