"""What an item may hold: the parts that both faces write, checked once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from db.models import Item, ItemStatus
from resolvers.access import clean_text
from resolvers.errors import InvalidInput

LONGEST_TEXT = 200_000
LONGEST_URL = 2_000_000
MOST_PARTS = 100
ROLES = frozenset({"user", "assistant", "system"})


@dataclass(frozen=True, slots=True)
class TextPart:
    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """`url`: https, or a data URL of at most 2,000,000 characters."""

    url: str
    detail: str | None = None


Part = TextPart | ImagePart


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item as a caller gives it. `is_plain`: it was written as one string and is shown as one."""

    role: str
    parts: Sequence[Part]
    is_plain: bool = True
    status: ItemStatus = ItemStatus.COMPLETED

    def row(self) -> Item:
        """Raises InvalidInput naming what is wrong with it."""
        if self.role not in ROLES:
            raise InvalidInput(f"role must be one of {', '.join(sorted(ROLES))}", field="role")
        return Item(role=self.role, content=stored(self.parts), is_plain=self.is_plain, status=self.status)


def stored(parts: Sequence[Part]) -> list[dict[str, object]]:
    """Parts as items hold them. Raises InvalidInput."""
    if not 1 <= len(parts) <= MOST_PARTS:
        raise InvalidInput(f"content must have 1 to {MOST_PARTS} parts", field="content")
    return [_stored(part) for part in parts]


def _stored(part: Part) -> dict[str, object]:
    match part:
        case TextPart(text):
            return {"type": "text", "text": clean_text(text, "content", limit=LONGEST_TEXT, minimum=1)}
        case ImagePart(url, detail):
            clean_text(url, "content", limit=LONGEST_URL, minimum=1)
            if not url.startswith(("https://", "http://", "data:image/", "jan_")):
                raise InvalidInput("An image is given by an http(s) or data:image URL or a media id", field="content")
            stored: dict[str, object] = {"type": "image", "url": url}
            return stored | {"detail": clean_text(detail, "content", limit=20)} if detail else stored
