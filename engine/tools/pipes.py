"""The pipes to a tool server that is a process of ours. No line that it writes is longer than what is kept in memory, and it is
gone when the block ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncGenerator

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream, Process
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from engine.tools.servers import ServerSpec

# How long a process may take to end once its input has ended, and once it has been told to.
GRACE = 2.0

_Incoming = MemoryObjectSendStream[SessionMessage | Exception]
Streams = tuple[MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]]


class Pipes:
    """`ended` is set when the process says nothing more; `is_too_long` where that is because it said too much at once."""

    def __init__(self, spec: ServerSpec, largest: int) -> None:
        self._spec = spec
        self._largest = largest
        self.ended = anyio.Event()
        self.is_too_long = False

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncGenerator[Streams]:
        """Raises OSError where the process cannot be started."""
        given = {name: secret.reveal() for name, secret in self._spec.environment.items()}
        process = await anyio.open_process(
            [self._spec.command, *self._spec.args],
            # Not ours: it holds the keys of everything.
            env=get_default_environment() | given,
            cwd=self._spec.folder,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert process.stdin is not None, "it is a pipe"
        assert process.stdout is not None, "it is a pipe"
        incoming, messages = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        outgoing, waiting = anyio.create_memory_object_stream[SessionMessage](0)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._read, process.stdout, incoming)
                group.start_soon(self._write, process.stdin, waiting)
                try:
                    yield messages, outgoing
                finally:
                    group.cancel_scope.cancel()
        finally:
            for stream in (incoming, messages, outgoing, waiting):
                stream.close()
            with anyio.CancelScope(shield=True):
                await _end(process)

    async def _read(self, output: ByteReceiveStream, incoming: _Incoming) -> None:
        """Ends with the process's output, and with a line that is too long."""
        rest = bytearray()
        seen = 0
        with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream):
            while True:
                rest += await output.receive(1 << 16)
                while (end := rest.find(b"\n", seen)) >= 0:
                    line = bytes(rest[:end])
                    del rest[: end + 1]
                    seen = 0
                    await incoming.send(_message(line))
                seen = len(rest)
                if seen > self._largest:
                    self.is_too_long = True
                    break
        incoming.close()
        self.ended.set()

    async def _write(self, input: ByteSendStream, waiting: MemoryObjectReceiveStream[SessionMessage]) -> None:
        try:
            async for one in waiting:
                written = one.message.model_dump_json(by_alias=True, exclude_unset=True)
                await input.send(f"{written}\n".encode())
        except (anyio.ClosedResourceError, anyio.BrokenResourceError, OSError):
            self.ended.set()


def _message(line: bytes) -> SessionMessage | Exception:
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError as error:
        # What a process writes beside its messages is no reason to let it go.
        return error


async def _end(process: Process) -> None:
    """Asks it to end, then tells it, then ends it, with all that it has started."""
    assert process.stdin is not None, "it is a pipe"
    with contextlib.suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        await process.stdin.aclose()
    for number in (0, signal.SIGTERM, signal.SIGKILL):
        if number:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
        if await _has_ended(process):
            break
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with anyio.move_on_after(GRACE):
        await process.aclose()


async def _has_ended(process: Process) -> bool:
    """Within the time of grace."""
    with anyio.move_on_after(GRACE):
        # Not `wait()`: that waits for all who have inherited the pipes.
        while process.returncode is None:  # noqa: ASYNC110
            await anyio.sleep(0.01)
    return process.returncode is not None
