"""Traces by OpenTelemetry. Imported only where they are switched on: the SDK costs half a second and many megabytes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator, Mapping
from types import MappingProxyType

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as ByGrpc
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as ByHttp
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from engine.trace import Side, Span, Value
from resolvers.health import version
from server.settings import Settings

# How long spans may take to leave when the process does.
FAREWELL_SECONDS = 3.0

_KINDS = MappingProxyType(
    {Side.SERVER: SpanKind.SERVER, Side.CLIENT: SpanKind.CLIENT, Side.INTERNAL: SpanKind.INTERNAL}
)
_carrier = TraceContextTextMapPropagator()


class _Seen:
    __slots__ = ("_span",)

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def note(self, attributes: Mapping[str, Value]) -> None:
        self._span.set_attributes(attributes)

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def fail(self, reason: str) -> None:
        self._span.set_attribute("error.type", reason)
        self._span.set_status(Status(StatusCode.ERROR))

    def headers(self) -> Mapping[str, str]:
        found: dict[str, str] = {}
        _carrier.inject(found, trace.set_span_in_context(self._span))
        return found

    def end(self) -> None:
        if self._span.is_recording():
            self._span.end()


class Telemetry:
    """A Trace. Spans leave by a thread of their own; those that nobody takes are dropped."""

    is_on = True

    def __init__(self, settings: Settings) -> None:
        self.shows_content = settings.otel_content
        resource = Resource.create({"service.name": settings.otel_service_name, "service.version": version()})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(_exporter(settings)))
        self._tracer = self._provider.get_tracer("loquent", version())

    @contextlib.contextmanager
    def span(
        self, name: str, side: Side, attributes: Mapping[str, Value], *, parent: Mapping[str, str] | None = None
    ) -> Generator[Span]:
        context = _carrier.extract(parent) if parent else None
        # What an exception says may be a secret, so only its name is told.
        with self._tracer.start_as_current_span(
            name, context, _KINDS[side], attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            seen = _Seen(span)
            try:
                yield seen
            except Exception as error:
                seen.fail(type(error).__name__)
                raise

    def begin(self, name: str, side: Side, attributes: Mapping[str, Value]) -> Span:
        return _Seen(self._tracer.start_span(name, None, _KINDS[side], attributes))

    def close(self) -> None:
        """Sends what is left. A collector that is away holds nobody up for long."""
        thread = threading.Thread(target=self._provider.shutdown, daemon=True)
        thread.start()
        thread.join(FAREWELL_SECONDS)


def _exporter(settings: Settings) -> SpanExporter:
    address = settings.otel_endpoint
    if settings.otel_protocol == "grpc":
        return ByGrpc(endpoint=address)
    return ByHttp(endpoint=f"{address.rstrip('/')}/v1/traces" if address is not None else None)
