"""The parts of the benchmarks that could say what is not so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bench import litellm, start
from bench.contenders import Contender, Missing

BEFORE = Contender("direct", 1, 1, 0.0)


def test_a_peer_that_is_not_there_is_named_as_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(litellm.PLACE, str(tmp_path / "nowhere"))
    with (
        pytest.raises(Missing, match=r"nowhere has no LiteLLM, so it is NOT MEASURED; --install"),
        litellm.proxy(tmp_path, BEFORE),
    ):
        pass


def test_a_peer_that_pip_cannot_bring_is_named_as_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "broken"
    monkeypatch.setenv(litellm.PLACE, str(place))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(Missing, match=r"pip fails, so LiteLLM is NOT MEASURED: .*litellm"):
        litellm.install()


def test_the_best_of_several_starts_is_the_least_of_each_figure() -> None:
    rounds = [{"cold start s": 1.5, "resting MB": 100.0}, {"cold start s": 0.9, "resting MB": 101.0}]
    assert start.best(rounds) == {"cold start s": 0.9, "resting MB": 100.0}


def test_memory_is_that_of_a_process_and_of_all_it_has_started() -> None:
    child = "import sys; print('ready', flush=True); sys.stdin.read()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        [one] = psutil.Process(process.pid).children()
        alone = psutil.Process(process.pid).memory_info().rss
        assert start.resident(process.pid) == pytest.approx(alone + one.memory_info().rss, rel=0.05)
        process.communicate()
