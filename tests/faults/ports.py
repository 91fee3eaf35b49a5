"""Ports that stay free until somebody listens there, and again when nobody does any more."""

from __future__ import annotations

import random
import socket

# Below those that systems give away by themselves: a client's connection may take one of these at any moment, even one that
# tries to connect to it.
LOWEST, HIGHEST = 15_000, 30_000


def free_port() -> int:
    while True:
        port = random.randrange(LOWEST, HIGHEST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
