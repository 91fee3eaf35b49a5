"""The forms that OLLAMA_HOST takes: Ollama itself reads in it where to listen, its clients where to ask."""

from __future__ import annotations

from urllib.parse import urlsplit

_PORT = 11434
_PORTS = {"http": 80, "https": 443}
# Where a server listens on all addresses of the machine, it is asked on the one of the machine itself.
_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing listens here


def address(value: str) -> str:
    """The address to ask: `http://host:port`, and a path where there is one. Raises ValueError."""
    text = value.strip().strip("'\"")
    scheme, found, rest = text.partition("://")
    if not found:
        scheme, rest = "http", text
    scheme = scheme.lower()
    if scheme not in _PORTS:
        raise ValueError("not an address of Ollama, such as localhost:11434")
    if rest.count(":") > 1 and not rest.startswith("["):
        rest = f"[{rest}]"
    parts = urlsplit(f"//{rest}")
    port = parts.port if parts.port is not None else (_PORTS[scheme] if found else _PORT)
    host = _EVERYWHERE.get(parts.hostname or "", parts.hostname or "")
    named = f"[{host}]" if ":" in host else host
    return f"{scheme}://{named}:{port}{parts.path.rstrip('/')}"
