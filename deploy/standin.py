"""Stands in for Caddy where there is none: passes each connection on to the next server in turn that takes it.

For trying the topology only: it reads no HTTP, so it adds no header and encrypts nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
from collections.abc import Sequence

_PIECE = 65_536


async def serve(port: int, upstreams: Sequence[tuple[str, int]]) -> None:
    """Until it is cancelled."""
    turns = itertools.count()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = next(turns)
        for offset in range(len(upstreams)):
            host, number = upstreams[(first + offset) % len(upstreams)]
            with contextlib.suppress(OSError):
                theirs = await asyncio.open_connection(host, number)
                await asyncio.gather(_pump(reader, theirs[1]), _pump(theirs[0], writer))
                return
        writer.close()

    async with await asyncio.start_server(pass_on, "127.0.0.1", port) as server:
        await server.serve_forever()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await source.read(_PIECE):
            sink.write(piece)
            await sink.drain()
    sink.close()


def main() -> None:
    port, *upstreams = sys.argv[1:]
    places = [upstream.rsplit(":", 1) for upstream in upstreams]
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(int(port), [(host, int(number)) for host, number in places]))


if __name__ == "__main__":
    main()
