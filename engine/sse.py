"""Reading server-sent events: bytes come in as the network cuts them, whole events go out."""

from __future__ import annotations

EVENT_LIMIT = 1 << 20

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class OverlongEvent(ValueError):
    """An event larger than EVENT_LIMIT bytes."""


class EventReader:
    """Splits one response into events. The usual shape, `data: …` and an empty line, costs one split for each read."""

    __slots__ = ("_is_after_return", "_is_first", "_parts", "_size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._is_first = True
        self._is_after_return = False

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """The `data` of each event that is now complete, and the same events as bytes for forwarding.

        Forwarded are the very bytes that came, except that comments and other fields are left out and line ends are `\\n`.
        Raises OverlongEvent, never in the same call as events that it completes.
        """
        if self._is_after_return or b"\r" in data:
            data = self._with_plain_line_ends(data)
            if not data:
                return [], b""
        whole = self._take_whole_events(data)
        if not whole:
            return [], b""
        payloads = []
        is_plain = True
        blocks = whole.split(b"\n\n")
        blocks.pop()
        for block in blocks:
            if block.startswith(b"data: ") and b"\n" not in block:
                payloads.append(block[6:])
            else:
                is_plain = False
                payload = _data_of(block.removeprefix(_BYTE_ORDER_MARK) if self._is_first else block)
                if payload is not None:
                    payloads.append(payload)
            self._is_first = False
        return payloads, whole if is_plain else as_events(payloads)

    def rest(self) -> bytes | None:
        """The `data` of an event whose empty line never came; to be asked once, at the end of the response."""
        block = b"".join(self._parts)
        return _data_of(block.removeprefix(_BYTE_ORDER_MARK) if self._is_first else block)

    def _take_whole_events(self, data: bytes) -> bytes:
        end = data.rfind(b"\n\n")
        if end >= 0:
            end += 2
        elif self._parts and data.startswith(b"\n") and self._parts[-1].endswith(b"\n"):
            end = 1
        else:
            self._keep(data)
            return b""
        if not self._parts and end == len(data):
            return data
        whole = b"".join((*self._parts, data[:end]))
        self._parts = [data[end:]] if end < len(data) else []
        self._size = len(data) - end
        return whole

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > EVENT_LIMIT:
            raise OverlongEvent
        self._parts.append(data)

    def _with_plain_line_ends(self, data: bytes) -> bytes:
        if self._is_after_return:
            data = data.removeprefix(b"\n")
        # A lone return is a line end too: it is one at once, and the other half of a pair is dropped when it comes.
        self._is_after_return = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def as_events(payloads: list[bytes]) -> bytes:
    """Server-sent events that carry these JSON texts. JSON has line ends only where a space may stand."""
    return b"".join([b"data: " + payload.replace(b"\n", b" ") + b"\n\n" for payload in payloads])


def _data_of(block: bytes) -> bytes | None:
    lines = [line[5:].removeprefix(b" ") for line in block.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None
