"""How much memory an import and an export take: `python -m bench.transfer MEGABYTES`."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx2

from bench.contenders import RAISED, Contender, free_port, scratch, serving, sign_in

MEGABYTE = 1024 * 1024
ITEMS = 40
_WORDS = [f"word{number}" for number in range(3000)]
_MOMENT = "2026-01-01T00:00:00Z"
_TIMEOUT = httpx2.Timeout(600)


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one way: bytes, seconds, and the most memory of the server before and during it, in bytes."""

    size: int
    seconds: float
    before: int
    most: int

    def told(self, name: str) -> str:
        return (
            f"{name}: {self.size / MEGABYTE:,.0f} MB in {self.seconds:.1f} s ({self.size / MEGABYTE / self.seconds:.1f} MB/s), "
            f"memory {self.before / MEGABYTE:.0f} MB -> at most {self.most / MEGABYTE:.0f} MB"
        )


def measure(folder: Path, megabytes: int) -> tuple[Figures, Figures]:
    """An import of so much into a new server, and the export of it."""
    port = free_port()
    settings = {"LOQUENT_DATA": str(folder / "data"), **RAISED}
    command = [sys.executable, "-m", "server", "serve", f"--port={port}"]
    with serving("loquent", command, port, folder, settings, 0) as server:
        return asyncio.run(_measure(server, sign_in(port), megabytes * MEGABYTE))


async def _measure(server: Contender, token: str, size: int) -> tuple[Figures, Figures]:
    base, headers = f"http://127.0.0.1:{server.port}", {"authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(base_url=base, headers=headers, timeout=_TIMEOUT) as client:
        before, began = _memory(server.pid), time.monotonic()
        answer = await client.post("/v1/users/me/import", content=_archive(size))
        report = answer.json()
        assert (answer.status_code, report["error_count"]) == (200, 0), report
        taken = Figures(size, time.monotonic() - began, before, _memory(server.pid))
        began, total, items = time.monotonic(), 0, 0
        async with client.stream("GET", "/v1/users/me/export") as stream:
            async for piece in stream.aiter_bytes():
                total += len(piece)
                items += piece.count(b'{"type":"item"')
        # A line may lie across two pieces, but not many do.
        assert report["items"] * 0.95 < items <= report["items"], (items, report)
        given = Figures(total, time.monotonic() - began, taken.most, _memory(server.pid))
    return taken, given


async def _archive(size: int) -> AsyncIterator[bytes]:
    chance, made, number = random.Random(7), 0, 0
    while made < size:
        piece = _conversation(chance, number)
        number, made = number + 1, made + len(piece)
        yield piece


def _conversation(chance: random.Random, number: int) -> bytes:
    id = f"conv_{number}"
    common: dict[str, object] = {"created_at": _MOMENT}
    lines: list[dict[str, object]] = [
        {"type": "conversation", "id": id, "title": f"Talk {number}", "active_branch": "MAIN", "updated_at": _MOMENT},
        {"type": "branch", "id": f"br_{number}", "conversation_id": id, "name": "MAIN"},
    ]
    for position in range(1, ITEMS + 1):
        text = " ".join(chance.choices(_WORDS, k=100))
        lines.append(
            {
                "type": "item",
                "id": f"msg_{number}_{position}",
                "conversation_id": id,
                "branch_id": f"br_{number}",
                "position": position,
                "role": "user" if position % 2 else "assistant",
                "status": "completed",
                "content": [{"type": "text", "text": text}],
                "updated_at": _MOMENT,
            }
        )
    return b"".join(json.dumps(line | common).encode() + b"\n" for line in lines)


def _memory(pid: int) -> int:
    """The most that the process has ever had in memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"process {pid} tells nothing of its memory")


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with scratch() as folder:
        taken, given = measure(folder, megabytes)
    print(taken.told("import"), given.told("export"), sep=os.linesep)


if __name__ == "__main__":
    main()
