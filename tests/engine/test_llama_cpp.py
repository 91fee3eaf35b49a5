"""Models of a folder: loading, sharing, changing and losing them. The engine is real."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest
from anyio import fail_after

from engine.events import ErrorCode, TextDelta
from engine.http import HttpClient
from engine.providers import llama_process
from engine.providers.base import ChatRequest, Chunk, UpstreamError
from engine.providers.llama_cpp import LlamaCppProvider

pytestmark = pytest.mark.anyio


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    """Two models that load, two that do not, and files that are no models."""
    for name in ("one.gguf", "two.gguf", "parts-00001-of-00002.gguf", "parts-00002-of-00002.gguf", "mmproj-one.gguf"):
        shutil.copy(tiny_model, tmp_path / name)
    (tmp_path / "damaged.gguf").write_bytes(tiny_model.read_bytes()[:5000])
    (tmp_path / "page.gguf").write_bytes(b"<html>")
    (tmp_path / "notes.txt").write_text("no model")
    (tmp_path / "folder.gguf").mkdir()
    (tmp_path / "dangling.gguf").symlink_to(tmp_path / "gone.gguf")
    return tmp_path


@pytest.fixture
async def local(folder: Path, http: HttpClient) -> AsyncIterator[LlamaCppProvider]:
    provider = LlamaCppProvider(folder, http, threads=1)
    yield provider
    await provider.close()


def ask(model: str, **options: object) -> ChatRequest:
    return ChatRequest(model, [{"role": "user", "content": "Hi"}], options)


async def say(local: LlamaCppProvider, model: str, **options: object) -> str:
    with fail_after(10):
        async with aclosing(local.stream(ask(model, max_tokens=5, **options))) as chunks:
            deltas = [delta async for chunk in chunks for delta in chunk.deltas]
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


def engines() -> list[psutil.Process]:
    children = psutil.Process(os.getpid()).children()
    return [child for child in children if any("llama_engine" in part for part in child.cmdline())]


async def failure(local: LlamaCppProvider, model: str) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await say(local, model)
    return caught.value


async def test_every_model_of_the_folder_is_listed_without_loading(local: LlamaCppProvider) -> None:
    names = [model.name for model in await local.models()]
    assert names == ["damaged", "one", "page", "parts-00001-of-00002", "two"]
    assert engines() == []


async def test_folder_that_is_not_there_is_an_error(http: HttpClient, tmp_path: Path) -> None:
    with pytest.raises(UpstreamError) as caught:
        await LlamaCppProvider(tmp_path / "gone", http).models()
    assert caught.value.code is ErrorCode.UNAVAILABLE
    assert str(tmp_path) not in caught.value.message


async def test_missing_part_is_named(local: LlamaCppProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(UpstreamError) as caught:
        await local.models()
    assert caught.value.code is ErrorCode.UNAVAILABLE
    assert "loquent[local]" in caught.value.message


async def test_concurrent_first_uses_load_once(local: LlamaCppProvider) -> None:
    answers = await asyncio.gather(*(say(local, "one") for _ in range(6)))
    assert all(answers)
    assert len(engines()) == 1


async def test_another_model_takes_the_place_of_the_idle_one(local: LlamaCppProvider) -> None:
    assert await say(local, "one")
    (first,) = engines()
    assert await say(local, "two")
    (second,) = engines()
    assert first.pid != second.pid


async def test_two_models_stay_where_there_is_room_for_two(folder: Path, http: HttpClient) -> None:
    local = LlamaCppProvider(folder, http, threads=1, capacity=2)
    for model in ("one", "two", "one", "two"):
        assert await say(local, model)
    before = {process.pid for process in engines()}
    # The third takes the place of the one unused for longest.
    assert await say(local, "parts-00001-of-00002")
    assert len({process.pid for process in engines()} & before) == 1
    assert await say(local, "two")
    assert len({process.pid for process in engines()} & before) == 1
    await local.close()
    assert engines() == []


async def test_model_in_use_is_waited_for(local: LlamaCppProvider) -> None:
    stream = local.stream(ask("one", ignore_eos=True))
    with fail_after(10):
        await anext(stream)
    waiting = asyncio.create_task(say(local, "two"))
    newcomer = asyncio.create_task(say(local, "one"))
    assert [chunk async for chunk in _some(stream, 20)]
    assert not waiting.done()
    await stream.aclose()
    assert await waiting
    assert await newcomer


async def _some(stream: AsyncIterator[Chunk], count: int) -> AsyncIterator[Chunk]:
    with fail_after(5):
        for _ in range(count):
            yield await anext(stream)


async def test_wait_for_a_model_in_use_is_bounded(folder: Path, http: HttpClient) -> None:
    local = LlamaCppProvider(folder, http, threads=1, patience=0.05)
    stream = local.stream(ask("one", ignore_eos=True))
    with fail_after(10):
        await anext(stream)
        error = await failure(local, "two")
        await stream.aclose()
        await local.close()
    assert (error.code, error.is_retryable) == (ErrorCode.UNAVAILABLE, True)


@pytest.mark.parametrize("model", ["damaged", "page"])
async def test_damaged_file_is_named_and_harms_nobody(local: LlamaCppProvider, folder: Path, model: str) -> None:
    assert await say(local, "one")
    error = await failure(local, model)
    assert error.code is ErrorCode.PROVIDER_ERROR
    assert "damaged" in error.message
    assert str(folder) not in error.message
    assert await say(local, "one")
    assert len(await local.models()) == 5


@pytest.mark.parametrize("model", ["", "..", "gone", "../one", "mmproj-one", "parts-00002-of-00002", "one.gguf"])
async def test_what_is_not_listed_is_not_found(local: LlamaCppProvider, model: str) -> None:
    assert (await failure(local, model)).code is ErrorCode.MODEL_NOT_FOUND


async def test_engine_that_dies_ends_its_streams_and_is_started_anew(local: LlamaCppProvider) -> None:
    stream = local.stream(ask("one", ignore_eos=True))
    with fail_after(10):
        await anext(stream)
        (engine,) = engines()
        engine.kill()
        with pytest.raises(UpstreamError) as caught:
            async for _ in stream:
                pass
    assert caught.value.code is ErrorCode.PROVIDER_PROTOCOL
    assert await say(local, "one")


async def test_death_that_nobody_has_noticed_yet_costs_no_answer(local: LlamaCppProvider) -> None:
    assert await say(local, "one")
    (engine,) = engines()
    engine.kill()
    assert await say(local, "one")
    (successor,) = engines()
    assert successor.pid != engine.pid


async def test_load_that_takes_too_long_is_ended(local: LlamaCppProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_process, "_LOAD_TIME", 0)
    assert (await failure(local, "one")).code is ErrorCode.TIMEOUT
    assert engines() == []


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("", ErrorCode.PROVIDER_ERROR),
        ("import sys; sys.stdin.readline(); print('what?')", ErrorCode.PROVIDER_ERROR),
        ("""import sys; sys.stdin.readline(); print('{"error":"refused"}')""", ErrorCode.PROVIDER_ERROR),
        ("""import sys; sys.stdin.readline(); print('{"error":"missing"}')""", ErrorCode.UNAVAILABLE),
    ],
    ids=["silent", "confused", "refused", "without its library"],
)
async def test_engine_that_does_not_start_is_an_error(
    local: LlamaCppProvider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, code: ErrorCode
) -> None:
    engine = tmp_path / "engine.py"
    engine.write_text(script)
    monkeypatch.setattr(llama_process, "_SCRIPT", engine)
    assert (await failure(local, "one")).code is code


async def test_engine_that_cannot_be_reached_is_started_once_more_and_not_again(
    local: LlamaCppProvider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine = tmp_path / "llama_engine.py"
    starts = tmp_path / "starts"
    engine.write_text(
        "import sys; sys.stdin.readline(); "
        f"open({str(starts)!r}, 'a').write('x'); "
        """print('{"address":"http://127.0.0.1:1"}', flush=True); sys.stdin.read()"""
    )
    monkeypatch.setattr(llama_process, "_SCRIPT", engine)
    assert (await failure(local, "one")).code is ErrorCode.UNAVAILABLE
    assert starts.read_text() == "xx"


async def test_file_that_may_not_be_read_is_an_error(local: LlamaCppProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path, _mode: str) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "open", refuse)
    assert (await failure(local, "one")).code is ErrorCode.PROVIDER_ERROR


async def test_giving_up_while_a_model_loads_leaves_no_engine(local: LlamaCppProvider) -> None:
    loading = asyncio.create_task(say(local, "one"))
    with fail_after(5):
        while not engines():  # noqa: ASYNC110 - a process announces itself to nobody
            await asyncio.sleep(0)
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
    assert engines() == []
    assert await say(local, "one")


async def test_closing_frees_the_model(local: LlamaCppProvider) -> None:
    assert await say(local, "one")
    with fail_after(5):
        await local.close()
    assert engines() == []


async def test_engine_is_closed_to_others(local: LlamaCppProvider, http: HttpClient) -> None:
    assert await say(local, "one")
    (engine,) = engines()
    (listener,) = [c.laddr for c in engine.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert listener.ip == "127.0.0.1"
    with pytest.raises(UpstreamError) as caught:
        await http.post_json(f"http://127.0.0.1:{listener.port}/v1/chat/completions", b'{"messages":[]}', {})
    assert caught.value.code is ErrorCode.PROVIDER_AUTH
