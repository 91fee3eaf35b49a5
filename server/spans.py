"""The span of a request: below the one of whoever asks, above all that it makes us do."""

from __future__ import annotations

from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.trace import Side, Trace

_CARRIED = (b"traceparent", b"tracestate")
_LOWEST_FAULT = 500


async def traced(app: ASGIApp, trace: Trace, scope: Scope, receive: Receive, send: Send) -> None:
    parent = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _CARRIED}
    method = scope["method"]
    attributes = {"http.request.method": method, "url.scheme": scope["scheme"]}
    attributes["loquent.request_id"] = scope["state"]["request_id"]
    with trace.span(method, Side.SERVER, attributes, parent=parent) as span:
        # Not a coroutine function: every chunk of a stream would pay for one.
        def watched(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                status = message["status"]
                span.note({"http.response.status_code": status})
                if status >= _LOWEST_FAULT:
                    span.fail(str(status))
            return send(message)

        try:
            await app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", None)
            if route is not None:
                span.rename(f"{method} {route}")
                span.note({"http.route": route})
