"""`GET /metrics`: what this process has counted and how it stands, for Prometheus. It costs nothing until somebody asks.

Several workers share one address, so whoever is asked asks the others too: each figure has its worker.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from db.pools import pools
from engine.meter import Meter, Spread, Tally
from engine.providers.breaker import Guarded
from graph.asgi import GraphQLApp
from resolvers.health import version
from server.services import Process
from server.siblings import Siblings

Sample = tuple[str, dict[str, str], float]

_STATES = ("closed", "half_open", "open")


class Family(msgspec.Struct, frozen=True, array_like=True):
    """One metric with all its samples, each with its name, labels and value."""

    name: str
    help: str
    kind: str
    samples: list[Sample]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Family])


class Metrics:
    """The endpoint. Needs no sign-in, as probes need none: what is outside need not be let through to it."""

    def __init__(self, process: Process, graphql: GraphQLApp) -> None:
        self._process = process
        self._graphql = graphql
        self.siblings = Siblings(lambda: _encoder.encode(self._families()))

    async def answer(self, request: Request) -> Response:
        # Late: it takes a tenth of a second and some megabytes, and many a server is never asked.
        from server import exposition  # noqa: PLC0415

        found = {"": self._families()}
        if self.siblings.is_one_of_many:
            told = await self.siblings.ask()
            found = {name: _decoder.decode(answer) for name, answer in told.items()}
            found[self.siblings.name] = self._families()
        body, media_type = exposition.render(found, request.headers.get("accept", ""))
        return Response(body, media_type=media_type)

    def _families(self) -> list[Family]:
        return [*counted(self._process.services.meter), *standing(self._process, self._graphql), *_of_the_process()]


def counted(meter: Meter) -> Iterator[Family]:
    yield _tally("loquent_http_requests", "Requests that were answered, by route.", meter.requests)
    yield _spread("loquent_http_request_seconds", "From a request to the end of its answer.", meter.request_seconds)
    start = "From a request to the beginning of its answer."
    yield _spread("loquent_http_response_start_seconds", start, meter.response_start_seconds)
    yield _tally("loquent_graphql_operations", "GraphQL operations that have ended.", meter.operations)
    yield _spread("loquent_graphql_operation_seconds", "How long GraphQL operations took.", meter.operation_seconds)
    yield _tally("loquent_generations", "Generations that have ended.", meter.generations)
    yield _spread("loquent_generation_seconds", "How long generations ran.", meter.generation_seconds)
    first = "From the start of a generation to its first token."
    yield _spread("loquent_time_to_first_token_seconds", first, meter.first_token_seconds)
    yield _tally("loquent_tokens", "Tokens, by direction: input, output, and of these cached, reasoning.", meter.tokens)
    yield _tally("loquent_tool_calls", "Calls of tools that have ended.", meter.tool_calls)
    yield _spread("loquent_tool_call_seconds", "How long calls of tools took.", meter.tool_call_seconds)
    yield _spread("loquent_log_commit_seconds", "How long commits of the log of events took.", meter.commit_seconds)
    yield _spread("loquent_log_commit_events", "How many events a commit of the log held.", meter.commit_events)
    yield _tally("loquent_log_commit_failures", "Commits of the log that failed.", meter.commit_failures)


def standing(process: Process, graphql: GraphQLApp) -> Iterator[Family]:
    services, log = process.services, process.services.supervisor.log
    yield _gauge("loquent_generations_running", "Generations that run now.", services.supervisor.running)
    held = "Places for generations that are taken, by those that run and those that will."
    yield _gauge("loquent_generation_places_held", held, services.supervisor.held)
    yield _gauge("loquent_followers", "Who follows a generation now.", log.followers)
    yield _gauge("loquent_log_waiting_generations", "Generations with events that are not committed yet.", log.waiting)
    yield _gauge("loquent_sockets_open", "Open WebSockets.", graphql.open_sockets)
    yield _gauge("loquent_streams_open", "Open GraphQL streams over HTTP.", graphql.open_streams)
    yield _gauge("loquent_draining", "1 once the process is to leave.", services.supervisor.is_draining)
    yield _labelled(
        "loquent_background_work_running", "1 for work in the background that goes on.", ("work",), process.work()
    )
    connections = {(pool.name, "used"): pool.used for pool in pools(process.database)}
    connections |= {(pool.name, "most"): pool.most for pool in pools(process.database)}
    about = "Connections to the database: those in use, and how many there may be."
    yield _labelled("loquent_database_connections", about, ("pool", "state"), connections)
    if process.is_waked is not None:
        yield _gauge("loquent_redis_connected", "1 while wake-ups come through Redis.", process.is_waked)
    guarded = [one for one in services.registry.providers if isinstance(one, Guarded)]
    states = {(one.name, state): one.breaker.state == state for one in guarded for state in _STATES}
    yield _labelled("loquent_breaker_state", "1 for the state of a provider's breaker.", ("provider", "state"), states)
    running = {one.name: one.running for one in guarded}
    yield _labelled("loquent_upstream_answers_running", "Answers that a provider gives now.", ("provider",), running)


def _of_the_process() -> Iterator[Family]:
    # Late, as above.
    from server import exposition  # noqa: PLC0415

    yield _labelled("loquent_build_info", "The version that runs.", ("version",), {version(): 1})
    yield from (Family(*found) for found in exposition.of_the_process())


def _gauge(name: str, about: str, value: float) -> Family:
    return Family(name, about, "gauge", [(name, {}, float(value))])


def _labelled(
    name: str, about: str, labels: Sequence[str], values: Mapping[str, float] | Mapping[tuple[str, str], float]
) -> Family:
    samples = [
        (name, dict(zip(labels, (key,) if isinstance(key, str) else key, strict=True)), float(value))
        for key, value in values.items()
    ]
    return Family(name, about, "gauge", samples)


def _tally(name: str, about: str, tally: Tally) -> Family:
    samples = [
        (f"{name}_total", dict(zip(tally.labels, labels, strict=True)), value) for labels, value in tally.values.items()
    ]
    return Family(name, about, "counter", samples)


def _spread(name: str, about: str, spread: Spread) -> Family:
    samples: list[Sample] = []
    for values, buckets in spread.values.items():
        labels, count = dict(zip(spread.labels, values, strict=True)), 0
        for bound, more in zip([*map(str, spread.bounds), "+Inf"], buckets.counts, strict=True):
            count += more
            samples.append((f"{name}_bucket", labels | {"le": bound}, count))
        samples += [(f"{name}_count", labels, count), (f"{name}_sum", labels, buckets.total)]
    return Family(name, about, "histogram", samples)
