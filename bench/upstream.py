"""A fake OpenAI-compatible upstream, and a WebSocket that sends ready-made frames: as little work as Python allows.

`python -m bench.upstream PORT`. For this benchmark alone: it believes what its clients say, and its clients mask with zeros.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import json
import random
import re
import sys
import time

import uvloop

from bench.wire import ACK, BLANK, BURST, COMPLETE, MARK, MODELS, PROTOCOL, TOKENS, WORD, frame

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_KEY = re.compile(rb"sec-websocket-key: *(\S+)", re.IGNORECASE)
_MODEL = re.compile(rb'"model": *"([nt](\d+)d(\d+))"')
_STREAMED = re.compile(rb'"stream": *true')
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)
_SENTENCE = "A fixed answer of a few dozen words, to measure how much a server adds to each request, and nothing more."
_USAGE = {"prompt_tokens": 12, "completion_tokens": 29, "total_tokens": 41}


def _json_answer(value: object) -> bytes:
    body = json.dumps(value, separators=(",", ":")).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


@functools.cache
def _completion(model: str) -> bytes:
    message = {"role": "assistant", "content": _SENTENCE, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    head = {"id": "chatcmpl-fake", "object": "chat.completion", "created": 1700000000, "model": model}
    return _json_answer(head | {"choices": [choice], "usage": _USAGE})


@functools.cache
def _chunk(model: str, text: str | None, reason: str | None) -> bytes:
    """One event in one chunk of the transfer."""
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    head = {"id": "chatcmpl-fake", "object": "chat.completion.chunk", "created": 1700000000, "model": model}
    return _event(head | {"choices": [choice]})


def _event(value: object) -> bytes:
    event = b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


@functools.cache
def _stream_end(model: str, *, has_usage: bool) -> bytes:
    usage = _event({"id": "chatcmpl-fake", "choices": [], "usage": _USAGE}) if has_usage else b""
    return _chunk(model, None, "stop") + usage + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


@functools.cache
def _ws_frame(text: str) -> bytes:
    payload = text.encode()
    size = len(payload)
    return (bytes((0x81, size)) if size < 126 else b"\x81\x7e" + size.to_bytes(2)) + payload


class Upstream(asyncio.Protocol):
    """One connection. A stream writes one chunk in each turn of the loop, or one each so many milliseconds."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._is_busy = self._is_paused = self._is_lost = self._is_socket = self._is_burst = self._is_stamped = False
        self._pieces: list[bytes] = []
        self._end = b""
        self._sent = 0
        self._delay = self._due = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as all of TCP are
        self._transport = transport

    def connection_lost(self, _error: Exception | None) -> None:
        self._is_lost = True

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        if self._is_busy and not self._delay:
            self._loop.call_soon(self._step)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while not self._is_busy and (self._take_frame() if self._is_socket else self._take_request()):
            pass

    def _take_request(self) -> bool:
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return False
        if head.startswith(b"GET"):
            self._buffer = rest
            self._get(head)
            return True
        length = _LENGTH.search(head)
        size = int(length[1]) if length else 0
        if len(rest) < size:
            return False
        self._buffer = rest[size:]
        self._post(rest[:size])
        return True

    def _get(self, head: bytes) -> None:
        key = _KEY.search(head)
        if key is None:
            models = [{"id": name, "object": "model", "created": 1700000000, "owned_by": "bench"} for name in MODELS]
            self._transport.write(_json_answer({"object": "list", "data": models}))
            return
        accept = base64.b64encode(hashlib.sha1(key[1] + _MAGIC, usedforsecurity=False).digest()).decode()
        self._is_socket = True
        self._transport.write(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            f"sec-websocket-accept: {accept}\r\nsec-websocket-protocol: {PROTOCOL}\r\n\r\n".encode()
        )
        self._is_burst = head.split(b" ")[1] == BURST.encode()

    def _post(self, body: bytes) -> None:
        found = _MODEL.search(body)
        if found is None:
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
            return
        model = found[1].decode()
        if not _STREAMED.search(body):
            self._transport.write(_completion(model))
            return
        self._delay = int(found[3]) / 1000
        self._is_stamped = model.startswith("t")
        word = MARK + BLANK if self._is_stamped else WORD
        self._transport.write(_STREAM_HEAD + _chunk(model, "", None))
        self._begin(
            [_chunk(model, word.decode(), None)] * int(found[2]), _stream_end(model, has_usage=b"include_usage" in body)
        )

    def _take_frame(self) -> bool:
        """A client's text frame; the mask is known to be zero."""
        data = self._buffer
        size = data[1] & 0x7F if len(data) > 1 else 0
        start = 6
        if size == 126:
            size, start = int.from_bytes(data[2:4]), 8
        if len(data) < start + size:
            return False
        self._buffer = data[start + size :]
        payload = data[start : start + size]
        if b'"connection_init"' in payload:
            self._transport.write(_ws_frame(ACK))
        elif b'"subscribe"' in payload:
            frames = [_ws_frame(frame(number)) for number in range(1, TOKENS + 1)]
            self._begin([b"".join(frames)] if self._is_burst else frames, _ws_frame(COMPLETE))
        return True

    def _begin(self, pieces: list[bytes], end: bytes) -> None:
        self._pieces, self._end, self._sent = pieces, end, 0
        self._is_busy = True
        if self._delay:
            # Streams that began together must not stay in step.
            self._due = self._loop.time() + random.random() * self._delay
            self._loop.call_at(self._due, self._step)
        else:
            self._loop.call_soon(self._step)

    def _step(self) -> None:
        if self._is_lost or (self._is_paused and not self._delay):
            return
        if self._sent == len(self._pieces):
            self._is_busy = False
            self._transport.write(self._end)
            self.data_received(b"")
            return
        piece = self._pieces[self._sent]
        self._transport.write(piece.replace(BLANK, b"%019d" % time.monotonic_ns()) if self._is_stamped else piece)
        self._sent += 1
        if self._delay:
            self._due += self._delay
            self._loop.call_at(self._due, self._step)
        else:
            self._loop.call_soon(self._step)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
