"""No test reaches beyond this machine."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest


class NetworkRefused(Exception):
    """Not an OSError on purpose: no code that expects a network to fail may take this for such a failure."""


def _is_here(host: object) -> bool:
    if host in (None, "", "localhost", socket.gethostname()):
        return True
    try:
        return ipaddress.ip_address(str(host).partition("%")[0]).is_loopback
    except ValueError:
        return False


def refuse(patch: pytest.MonkeyPatch, allowed: frozenset[str]) -> None:
    """Python's sockets connect to loopback, to local sockets and to `allowed` hosts; names under `.invalid` do not exist."""
    resolve, connect, connect_ex = socket.getaddrinfo, socket.socket.connect, socket.socket.connect_ex
    permitted: set[str] = set(allowed)

    def check(address: object) -> None:
        if isinstance(address, tuple) and not _is_here(address[0]) and address[0] not in permitted:
            raise NetworkRefused(f"a test tried to connect to {address[0]}")

    def guarded_connect(self: socket.socket, address: Any) -> None:
        check(address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        check(address)
        return connect_ex(self, address)

    def guarded_resolve(host: Any, *rest: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if isinstance(name, str) and name.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if not _is_here(name) and name not in allowed:
            raise NetworkRefused(f"a test tried to resolve {name}")
        found = resolve(host, *rest, **named)
        permitted.update(str(entry[4][0]) for entry in found if name in allowed)
        return found

    patch.setattr(socket.socket, "connect", guarded_connect)
    patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    patch.setattr(socket, "getaddrinfo", guarded_resolve)
