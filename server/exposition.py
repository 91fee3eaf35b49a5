"""Prometheus' own client, in one place: it is imported only once somebody asks for metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


class Family(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def help(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def samples(self) -> Sequence[tuple[str, dict[str, str], float]]: ...


class _Collected(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def render(workers: Mapping[str, Iterable[Family]], accept: str) -> tuple[bytes, str]:
    """The text for a scraper that takes these media types, and which one it is. A worker without a name is the only one."""
    metrics: dict[str, Metric] = {}
    for worker, families in workers.items():
        named = {"worker": worker} if worker else {}
        for family in families:
            metric = metrics.setdefault(family.name, Metric(family.name, family.help, family.kind))
            for name, labels, value in family.samples:
                metric.add_sample(name, labels | named, value)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(metrics.values()))
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type


def of_the_process() -> list[tuple[str, str, str, list[tuple[str, dict[str, str], float]]]]:
    """Memory, processor time, open files and start of this process."""
    found = ProcessCollector(registry=None).collect()
    return [
        (one.name, one.documentation, one.type, [(s.name, dict(s.labels), s.value) for s in one.samples])
        for one in found
    ]
