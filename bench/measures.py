"""What is measured, and how one measurement is made."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec

from bench.contenders import LOAD_CORE, ROOT, BenchError, Contender, pin, pinned
from bench.load import Plan, Result
from bench.wire import BURST, PACED, TOKENS

CHAT = "/v1/chat/completions"
LOAD_SECONDS = 60.0
_MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "Say hello in a few words, please."},
]
_GENERATE = "mutation ($input: GenerateInput!) { generate(input: $input) { generation { id } errors { message } } }"
FOLLOW = "subscription ($id: ID!) { generation(id: $id) { __typename ... on TextDelta { seq text } } }"
_TEXT = "query ($id: ID!) { generation(id: $id) { status lastSeq } }"

Kind = Literal["rate", "latency", "cpu"]
R = TypeVar("R", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Measure:
    """One row. `group` is what `--only` names; a rate is better when greater, latency and CPU when smaller."""

    group: str
    name: str
    kind: Kind
    unit: str
    plan: Callable[[Contender], Plan]
    value: Callable[[Result], float]


def chat_body(model: str, *, is_streamed: bool) -> str:
    body: dict[str, object] = {"model": model, "messages": _MESSAGES, "temperature": 0.2}
    if is_streamed:
        body["stream"] = True
    return json.dumps(body, separators=(",", ":"))


def _completions(connections: int) -> Callable[[Contender], Plan]:
    body = chat_body("n200d0", is_streamed=False)
    return lambda who: Plan("http", who.port, CHAT, connections, 0.3, 0.8, body=body, token=who.token, watched=who.pid)


def streams(connections: int, words: int, delay: int, seconds: float) -> Callable[[Contender], Plan]:
    body = chat_body(f"n{words}d{delay}", is_streamed=True)
    return lambda who: Plan(
        "stream", who.port, CHAT, connections, 0.4, seconds, words, body, who.token, watched=who.pid
    )


def sockets(
    connections: int, *, is_live: bool, seconds: float = 0.8, words: int = TOKENS, delay: int = 0
) -> Callable[[Contender], Plan]:
    """Ours follows a generation: one that each client starts for itself, or one that has ended. The others send frames."""

    def plan(who: Contender) -> Plan:
        made = Plan("socket", who.port, PACED if is_live else BURST, connections, 0.4, seconds, words, watched=who.pid)
        made.subscribe = json.dumps({"query": FOLLOW, "variables": {"id": "$GENERATION"}})
        if who.token:
            made.path, made.token = "/graphql", who.token
            # A slow one would go on into the next measurement.
            start = generate_request(f"n{words}d{delay}", is_left_running=not delay)
            if is_live:
                made.start = json.dumps(start)
            else:
                made.subscribe = made.subscribe.replace("$GENERATION", _finished_generation(who, start))
        return made

    return plan


def generate_request(model: str, *, is_left_running: bool = True) -> dict[str, object]:
    """`is_left_running` when its only follower leaves."""
    options = {"model": model, "onDisconnect": "CONTINUE" if is_left_running else "CANCEL"}
    made = {"content": [{"text": _MESSAGES[1]["content"]}], "options": options}
    return {"query": _GENERATE, "variables": {"input": made}}


def _finished_generation(who: Contender, start: dict[str, object]) -> str:
    """The id of a generation that has just ended, so that it is still in memory."""
    generation = ask(who, start)["generate"]["generation"]
    id = str(generation["id"])
    for _ in range(1000):
        found = ask(who, {"query": _TEXT, "variables": {"id": id}})["generation"]
        if found["status"] != "RUNNING":
            return id
    raise BenchError("the generation does not end")


def ask(who: Contender, body: dict[str, object]) -> dict[str, dict[str, Any]]:
    """What a GraphQL request is answered with. Raises BenchError."""
    headers = {"content-type": "application/json", "authorization": f"Bearer {who.token}"}
    request = urllib.request.Request(f"http://127.0.0.1:{who.port}/graphql", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            decoded = json.load(answer)
    except OSError as error:
        raise BenchError(f"{who.name} does not answer: {error}") from error
    if "errors" in decoded:
        raise BenchError(f"GraphQL: {decoded['errors']}")
    found: dict[str, dict[str, Any]] = decoded["data"]
    return found


def _answer_rate(result: Result) -> float:
    return result.answers / result.seconds


def _answer_cpu(result: Result) -> float:
    return result.cpu / result.answers * 1e6 if result.answers else 0.0


def word_rate(result: Result) -> float:
    return result.words / result.seconds


def word_cpu(result: Result) -> float:
    return result.cpu / result.words * 1e6 if result.words else 0.0


MEASURES = (
    Measure("json", "completions, 64 clients", "rate", "/s", _completions(64), _answer_rate),
    Measure("json", "CPU a completion, 64 clients", "cpu", "µs", _completions(64), _answer_cpu),
    Measure("json", "completion, 1 client, p50", "latency", "µs", _completions(1), lambda r: r.latency),
    Measure("first", "first token, 1 client, p50", "latency", "µs", streams(1, 4, 0, 0.8), lambda r: r.first),
    Measure("stream", "streamed chunks, 32 streams", "rate", "/s", streams(32, 200, 0, 0.8), word_rate),
    Measure("stream", "streamed chunks, 128 streams", "rate", "/s", streams(128, 200, 0, 1.0), word_rate),
    Measure("paced", "CPU a chunk, 64 streams, 50/s", "cpu", "µs", streams(64, 200, 20, 1.6), word_cpu),
    *(
        Measure("live", f"live subscription tokens × {n}", "rate", "/s", sockets(n, is_live=True), word_rate)
        for n in (1, 32, 128)
    ),
    *(
        Measure("replay", f"replayed subscription tokens × {n}", "rate", "/s", sockets(n, is_live=False), word_rate)
        for n in (1, 32, 128)
    ),
)


def measure(what: Measure, who: Contender, pace: float) -> float:
    """One measurement; `pace` stretches or shortens it. Raises BenchError."""
    return what.value(loaded(what.plan(who), pace, f"{what.name}, {who.name}"))


def loaded(plan: Plan, pace: float, what: str) -> Result:
    """What comes of a plan. Raises BenchError."""
    plan.warm_up *= pace
    plan.seconds *= pace
    result = carried_out("bench.load", plan, Result, what)
    if result.errors:
        raise BenchError(f"{what}: {result.errors} errors, first: {result.first_error}")
    return result


def carried_out(module: str, plan: msgspec.Struct, kind: type[R], what: str) -> R:
    """The result of a program that reads a plan, in a process of its own on the load's core. Raises BenchError."""
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        pin(process.pid, pinned(LOAD_CORE))
        output, complaint = process.communicate(msgspec.json.encode(plan), timeout=LOAD_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{what}: not done after {LOAD_SECONDS:.0f} seconds") from error
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise BenchError(f"{what}: {complaint.decode(errors='replace')[-2000:]}")
    return msgspec.json.decode(output, type=kind)
