"""Traces as a collector receives them from a server of its own, whose upstream is told of them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from engine.trace import Side
from server.settings import Settings
from server.telemetry import Telemetry
from tests.served import served

ROOT = Path(__file__).parents[2]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
PROMPT = "the prompt that nobody shall see"
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "small",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Good day."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
}


@dataclass
class Outside:
    """A collector and a model's server at one address: what they were sent."""

    url: str = ""
    exports: list[ExportTraceServiceRequest] = field(default_factory=list)
    asked: list[Mapping[str, str]] = field(default_factory=list)

    def spans(self) -> list[Span]:
        return [
            span
            for export in self.exports
            for resource in export.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@contextlib.contextmanager
def outside() -> Iterator[Outside]:
    found = Outside()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(json.dumps({"object": "list", "data": [{"id": "small", "object": "model"}]}).encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces":
                found.exports.append(ExportTraceServiceRequest.FromString(body))
                self._answer(ExportTraceServiceResponse().SerializeToString(), "application/x-protobuf")
                return
            found.asked.append({name.lower(): value for name, value in self.headers.items()})
            self._answer(json.dumps(ANSWER).encode())

        def _answer(self, body: bytes, media: str = "application/json") -> None:
            self.send_response(200)
            self.send_header("content-type", media)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def attributes(span: Span) -> dict[str, object]:
    found: dict[str, object] = {}
    for pair in span.attributes:
        kind = pair.value.WhichOneof("value")
        value = getattr(pair.value, str(kind))
        found[pair.key] = [one.string_value for one in value.values] if kind == "array_value" else value
    return found


def traced(folder: Path, world: Outside, **more: str) -> list[Span]:
    environment = {
        "OTEL_ENABLED": "true",
        "OTEL_SERVICE_NAME": "house",
        "OTEL_EXPORTER_OTLP_ENDPOINT": world.url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OPENAI_BASE_URL": f"{world.url}/v1",
        "OPENAI_API_KEY": "sk-hunter2",
    }
    with served(folder, environment | more) as base:
        token = httpx2.post(f"{base}/auth/guest-login", timeout=10).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}", "traceparent": f"00-{TRACE}-{PARENT}-01"}
        body = {"model": "small", "messages": [{"role": "user", "content": PROMPT}], "temperature": 0.5}
        answer = httpx2.post(f"{base}/v1/chat/completions", json=body, headers=headers, timeout=10)
        assert answer.json()["choices"][0]["message"]["content"] == "Good day."
        query = {"query": "query Me { viewer { id } }"}
        httpx2.post(f"{base}/graphql", json=query, headers=headers, timeout=10)
    return [span for span in world.spans() if span.trace_id.hex() == TRACE]


def test_a_request_a_generation_and_the_call_upstream_stand_below_each_other(tmp_path: Path) -> None:
    with outside() as world:
        spans = {span.name: span for span in traced(tmp_path, world)}
    request, chat = spans["POST /v1/chat/completions"], spans["chat small"]
    [call] = [span for span in spans.values() if span.parent_span_id == chat.span_id]
    assert (request.parent_span_id.hex(), chat.parent_span_id) == (PARENT, request.span_id)
    assert world.asked[-1]["traceparent"] == f"00-{TRACE}-{call.span_id.hex()}-01"
    assert spans["GraphQL query"].parent_span_id == spans["POST /graphql"].span_id
    assert attributes(spans["GraphQL query"]) == {"graphql.operation.type": "query", "graphql.operation.name": "Me"}

    said = attributes(chat)
    assert isinstance(said.pop("gen_ai.response.time_to_first_chunk"), float)
    assert said.pop("loquent.generation_id") == said.pop("gen_ai.response.id")
    assert said == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "small",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.model": "small",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
        "loquent.status": "completed",
    }
    assert attributes(call)["http.response.status_code"] == 200
    assert attributes(request)["http.route"] == "/v1/chat/completions"
    everything = b"".join(export.SerializeToString() for export in world.exports)
    assert b"house" in everything
    assert [word for word in (PROMPT, "Good day.", "hunter2") if word.encode() in everything] == []


def test_what_people_say_is_told_when_it_is_asked_for(tmp_path: Path) -> None:
    with outside() as world:
        spans = {span.name: span for span in traced(tmp_path, world, OTEL_CAPTURE_CONTENT="true")}
    said = attributes(spans["chat small"])
    assert json.loads(str(said["gen_ai.input.messages"])) == [
        {"role": "user", "parts": [{"type": "text", "content": PROMPT}]}
    ]
    assert json.loads(str(said["gen_ai.output.messages"])) == [
        {"role": "assistant", "parts": [{"type": "text", "content": "Good day."}], "finish_reason": "stop"}
    ]


def test_spans_go_by_grpc_too() -> None:
    got: list[str] = []

    class Collector(TraceServiceServicer):
        def Export(self, request: ExportTraceServiceRequest, context: object) -> ExportTraceServiceResponse:  # noqa: N802
            got.extend(span.name for one in request.resource_spans for scope in one.scope_spans for span in scope.spans)
            return ExportTraceServiceResponse()

    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    add_TraceServiceServicer_to_server(Collector(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        telemetry = Telemetry(Settings(otel_enabled=True, otel_endpoint=f"http://127.0.0.1:{port}"))
        with pytest.raises(ZeroDivisionError), telemetry.span("outer", Side.SERVER, {}):
            telemetry.begin("inner", Side.CLIENT, {}).end()
            raise ZeroDivisionError("hunter2")
        telemetry.close()
    finally:
        server.stop(None).wait(5)
    assert got == ["inner", "outer"]


def test_a_server_without_traces_and_scrapers_loads_neither_library(tmp_path: Path) -> None:
    program = (
        "import sys, server.serving\n"
        "from server.app import create_app\nfrom server.settings import Settings\n"
        "create_app(Settings())\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'opentelemetry', 'prometheus_client', 'grpc', 'redis'}))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"
