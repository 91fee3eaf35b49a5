"""What a client says on a socket: one frame becomes one message, or the reason why the socket is closed."""

from __future__ import annotations

import msgspec
from starlette.types import Message

from graph.errors import RequestError
from graph.operation import Request, decode
from resolvers.access import check_storable
from resolvers.errors import InvalidInput

_LONGEST_ID = 256


class ClientMessage(msgspec.Struct):
    """A frame from a client; what stands in `payload` depends on the type."""

    type: str
    id: str | msgspec.UnsetType = msgspec.UNSET
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_message = msgspec.json.Decoder(ClientMessage)
_request = msgspec.json.Decoder(Request)
_object = msgspec.json.Decoder(dict[str, object] | None)


class Closed(Exception):
    """The socket must be closed with this code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def parsed(frame: Message) -> ClientMessage:
    text = frame.get("text")
    if text is None:
        raise Closed(4400, "Binary frames are not part of the protocol")
    try:
        return _message.decode(text)
    except msgspec.ValidationError as error:
        raise Closed(4400, f"Invalid message: {error}") from error
    except (ValueError, RecursionError) as error:
        raise Closed(4400, "Invalid message: not JSON") from error


def id_of(message: ClientMessage) -> str:
    id = message.id
    if not isinstance(id, str) or not 0 < len(id) <= _LONGEST_ID or "\x00" in id:
        raise Closed(4400, f"Invalid message: id must be a string of 1 to {_LONGEST_ID} characters")
    return id


def payload_of(message: ClientMessage) -> dict[str, object]:
    """The payload of a message that may come without one."""
    if message.payload is msgspec.UNSET:
        return {}
    try:
        payload = _object.decode(message.payload) or {}
        check_storable(payload, "payload")
    except InvalidInput as error:
        raise Closed(4400, f"Invalid message: {error.message}") from error
    except (ValueError, RecursionError) as error:
        raise Closed(4400, "Invalid message: payload must be an object") from error
    return payload


def request_of(message: ClientMessage) -> Request:
    if message.payload is msgspec.UNSET:
        raise Closed(4400, "Invalid message: payload is missing")
    try:
        return decode(_request, message.payload)
    except RequestError as error:
        raise Closed(4400, f"Invalid message: {error}") from error
