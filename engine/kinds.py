"""What a file is, told by its first bytes: never by its name or by what somebody says of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
)
_RIFF: Mapping[bytes, str] = MappingProxyType({b"WEBP": "image/webp", b"WAVE": "audio/wav"})
_BRANDS: Mapping[bytes, str] = MappingProxyType(
    {b"avif": "image/avif", b"heic": "image/heic", b"heix": "image/heic", b"mif1": "image/heic", b"M4A ": "audio/mp4"}
)
# What a browser shows or plays, and runs nothing of.
SHOWN = frozenset(
    {"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp"}
    | {"audio/mpeg", "audio/flac", "audio/ogg", "audio/wav", "audio/mp4"}
)
NAMES = "PNG, JPEG, GIF, WebP, AVIF, HEIC, BMP, PDF, MP3, FLAC, Ogg, WAV and M4A"


def kind_of(content: bytes) -> str | None:
    """Its MIME type; None for what is none of NAMES: text, and so anything with a script in it, is never any of them."""
    if content[:4] == b"RIFF":
        return _RIFF.get(content[8:12])
    if content[4:8] == b"ftyp":
        return _BRANDS.get(content[8:12])
    if content[:2] == b"BM" and content[6:10] == bytes(4):
        return "image/bmp"
    return next((mime for start, mime in _STARTS if content.startswith(start)), None)
