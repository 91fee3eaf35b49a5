"""A real engine to test against: llama.cpp on a tiny model of random weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import xllamacpp

from tests.tiny_model import write_tiny_model

TINY = "tiny"
"""The name of the model, of its file and of its alias."""

LONGEST = 16384
"""As many tokens as the model can hold: seconds of work where `ignore_eos` is asked for."""

PARALLEL = 4


@contextlib.contextmanager
def running_engine(model: Path) -> Iterator[str]:
    """A server of the published chat wire; gives the address that ends in /v1. It answers PARALLEL requests at a time."""
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.model_alias = {TINY}
    params.n_ctx = LONGEST
    params.n_parallel = PARALLEL
    params.kv_unified = True
    params.embedding = True
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.port = 0
    params.verbosity = -1
    server = xllamacpp.Server(params)
    try:
        yield f"{server.listening_address}/v1"
    finally:
        del server


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the model, alone in its folder."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / f"{TINY}.gguf")


@pytest.fixture(scope="session")
def tiny_engine(tiny_model: Path) -> Iterator[str]:
    """The address of one engine for all tests of this worker."""
    with running_engine(tiny_model) as base_url:
        yield base_url
