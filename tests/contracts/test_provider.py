"""What every provider promises, on each of them; the engines behind are real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from anyio import fail_after

from engine.events import ErrorCode, FinishReason, Provenance, TextDelta
from engine.http import HttpClient
from engine.providers import texts
from engine.providers.anthropic import AnthropicProvider
from engine.providers.base import (
    ChatRequest,
    Chunk,
    Embedder,
    EmbeddingRequest,
    Finish,
    Provider,
    TextRequest,
    UpstreamError,
    embed,
)
from engine.providers.demo import DemoProvider
from engine.providers.llama_cpp import LlamaCppProvider
from engine.providers.ollama import OllamaProvider
from engine.providers.openai import OpenAIProvider
from tests import echo_messages
from tests.engines import LONGEST, PARALLEL, TINY
from tests.ollama_server import OllamaServer
from tests.scripted_upstream import ScriptedUpstream, response

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Subject:
    """A provider, a model of it, a request that runs for long, and one whose answer holds a given word and no other's."""

    provider: Provider
    model: str
    endless: dict[str, object]
    marked: Callable[[str], ChatRequest]
    selective: Provider
    """The same adapter before an upstream that knows what it does not offer."""
    forced: Provider | None = None
    """The same adapter before an upstream that can be made to say a word, where the engine cannot."""

    @property
    def speaker(self) -> Provider:
        """Who answers what is `marked`."""
        return self.forced or self.provider

    def request(self, options: dict[str, object], *, is_streamed: bool = True) -> ChatRequest:
        return ChatRequest(
            self.model, [{"role": "user", "content": "I want to see how this works"}], options, is_streamed
        )


OLLAMA_TINY = f"{TINY}:latest"
WORDS = ("apple", "bread", "chalk", "dunes", "eagle", "flute", "grape", "house")


def _echo(word: str) -> ChatRequest:
    return ChatRequest("demo", [{"role": "user", "content": f"I want {word}"}])


def _forced(word: str) -> ChatRequest:
    grammar = f'root ::= "{word * 8}"'
    return ChatRequest(TINY, [{"role": "user", "content": "Say a word"}], {"grammar": grammar, "max_tokens": 60})


@pytest.fixture
async def http(anyio_backend: str) -> AsyncIterator[HttpClient]:
    client = HttpClient()
    yield client
    await client.close()


@pytest.fixture
async def demo(anyio_backend: str) -> Subject:
    provider = DemoProvider(pace=0)
    return Subject(provider, "demo", {}, _echo, provider)


@pytest.fixture
async def openai(tiny_engine: str, http: HttpClient) -> AsyncIterator[Subject]:
    # The engine answers whatever model is named, so what a choosier upstream says is scripted.
    async with ScriptedUpstream().running() as upstream:
        missing = {"message": "The model does not exist", "type": "invalid_request_error", "code": "model_not_found"}
        upstream.answer(response({"error": missing}, 404))
        selective = OpenAIProvider("scripted", upstream.base_url, "sk-test", http)
        provider = OpenAIProvider("engine", tiny_engine, None, http)
        yield Subject(provider, TINY, {"ignore_eos": True}, _forced, selective)


@pytest.fixture
async def anthropic(tiny_engine: str, http: HttpClient) -> AsyncIterator[Subject]:
    async with ScriptedUpstream().running() as upstream:
        missing = {"type": "not_found_error", "message": "model: nothing-like-it"}
        upstream.answer(response({"type": "error", "error": missing}, 404))
        selective = AnthropicProvider("scripted", upstream.base_url, "sk-ant-test", http)
        provider = AnthropicProvider("engine", tiny_engine, None, http)
        async with echo_messages.running() as address:
            echo = AnthropicProvider("echo", address, None, http)
            endless: dict[str, object] = {"max_tokens": LONGEST - 200}
            yield Subject(provider, TINY, endless, _repeated, selective, echo)


@pytest.fixture
async def ollama(tiny_engine: str, http: HttpClient) -> AsyncIterator[Subject]:
    async with OllamaServer(tiny_engine, OLLAMA_TINY).running() as server:
        provider = OllamaProvider("ollama", server.address, None, http)
        yield Subject(provider, OLLAMA_TINY, {"max_tokens": LONGEST - 200}, _formed, provider)


def _formed(word: str) -> ChatRequest:
    form = {"type": "json_schema", "json_schema": {"name": "word", "schema": {"const": word * 8}}}
    # The form leaves a choice of the spaces behind the word, which must fall out alike each time.
    options: dict[str, object] = {"response_format": form, "max_tokens": 80, "temperature": 0, "seed": 7}
    return ChatRequest(OLLAMA_TINY, [{"role": "user", "content": "Say a word"}], options)


def _repeated(word: str) -> ChatRequest:
    return ChatRequest(TINY, [{"role": "user", "content": word * 8}], {"max_tokens": 60})


@pytest.fixture
async def llama_cpp(tiny_model: Path, http: HttpClient) -> AsyncIterator[Subject]:
    provider = LlamaCppProvider(tiny_model.parent, http, context_length=LONGEST, parallel=PARALLEL, threads=1)
    yield Subject(provider, TINY, {"ignore_eos": True}, _forced, provider)
    await provider.close()


@pytest.fixture(params=["demo", "openai", "anthropic", "ollama", "llama_cpp"])
def subject(request: pytest.FixtureRequest) -> Subject:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Subject)
    return found


async def gather(provider: Provider, request: ChatRequest) -> list[Chunk]:
    with fail_after(5):
        async with aclosing(provider.stream(request)) as chunks:
            return [chunk async for chunk in chunks]


async def completed(provider: Provider, request: TextRequest) -> list[Chunk]:
    with fail_after(5):
        async with aclosing(texts.complete(provider, request)) as chunks:
            return [chunk async for chunk in chunks]


def text_of(chunks: list[Chunk]) -> str:
    return "".join(delta.text for chunk in chunks for delta in chunk.deltas if isinstance(delta, TextDelta))


def finishes_of(chunks: list[Chunk]) -> list[Finish]:
    return [finish for chunk in chunks for finish in chunk.finishes]


async def test_provider_lists_its_model(subject: Subject) -> None:
    with fail_after(5):
        models = await subject.provider.models()
    assert [model.name for model in models] == [subject.model]


async def test_answer_comes_in_pieces_and_ends_with_a_reason_and_an_exact_bill(subject: Subject) -> None:
    chunks = await gather(subject.speaker, subject.marked("apple"))
    assert len([chunk for chunk in chunks if chunk.deltas]) > 1
    assert "apple" in text_of(chunks)
    assert finishes_of(chunks) == [Finish(FinishReason.STOP)]
    (usage,) = [chunk.usage for chunk in chunks if chunk.usage is not None]
    assert usage.provenance is Provenance.EXACT
    assert usage.prompt_tokens > 0
    assert usage.completion_tokens > 1


async def test_answer_in_one_piece_says_the_same(subject: Subject) -> None:
    request = subject.marked("apple")
    streamed = await gather(subject.speaker, request)
    (whole,) = await gather(subject.speaker, replace(request, is_streamed=False))
    assert text_of([whole]) == text_of(streamed)
    assert whole.finishes == finishes_of(streamed)
    (usage,) = [chunk.usage for chunk in streamed if chunk.usage is not None]
    assert whole.usage is not None
    assert whole.usage.provenance is Provenance.EXACT
    assert whole.usage.completion_tokens == usage.completion_tokens
    assert whole.usage.prompt_tokens == usage.prompt_tokens


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_answer_is_cut_at_the_token_limit(subject: Subject, is_streamed: bool) -> None:
    chunks = await gather(subject.provider, subject.request({"max_tokens": 3}, is_streamed=is_streamed))
    assert finishes_of(chunks) == [Finish(FinishReason.LENGTH)]
    (usage,) = [chunk.usage for chunk in chunks if chunk.usage is not None]
    assert usage.completion_tokens == 3


async def test_closing_the_iterator_frees_the_upstream_within_a_second(subject: Subject) -> None:
    # All places of the engine are taken by answers of many seconds: a further one can only come when they were given up.
    streams = [subject.provider.stream(subject.request(subject.endless)) for _ in range(PARALLEL)]
    with fail_after(5):
        for stream in streams:
            await anext(stream)
    with fail_after(1):
        for stream in streams:
            await stream.aclose()
        async with aclosing(subject.provider.stream(subject.request({"max_tokens": 1}))) as chunks:
            assert [chunk async for chunk in chunks]


async def test_cancelling_the_reader_frees_the_upstream_within_a_second(subject: Subject) -> None:
    begun = asyncio.Queue[None]()

    async def read() -> None:
        async with aclosing(subject.provider.stream(subject.request(subject.endless))) as chunks:
            async for _ in chunks:
                begun.put_nowait(None)
                await asyncio.Event().wait()

    readers = [asyncio.create_task(read()) for _ in range(PARALLEL)]
    with fail_after(5):
        for _ in readers:
            await begun.get()
    with fail_after(1):
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        async with aclosing(subject.provider.stream(subject.request({"max_tokens": 1}))) as chunks:
            assert [chunk async for chunk in chunks]


async def test_text_is_gone_on_with_to_an_end_and_a_bill(subject: Subject) -> None:
    one = TextRequest(subject.model, ["I want to see how this works"], {"max_tokens": 3})
    for request in (one, replace(one, is_streamed=False)):
        chunks = await completed(subject.provider, request)
        assert finishes_of(chunks) == [Finish(FinishReason.LENGTH)]
        usage = [chunk.usage for chunk in chunks if chunk.usage is not None][-1]
        assert (usage.provenance, usage.completion_tokens) == (Provenance.EXACT, 3)
        assert usage.prompt_tokens > 0


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_every_prompt_is_gone_on_with(subject: Subject, is_streamed: bool) -> None:
    request = TextRequest(subject.model, ["I want to see this", "And I want that"], {"max_tokens": 3}, is_streamed)
    chunks = await completed(subject.provider, request)
    assert sorted(finishes_of(chunks), key=lambda end: end.choice) == [
        Finish(FinishReason.LENGTH, 0),
        Finish(FinishReason.LENGTH, 1),
    ]
    said = {delta.choice for chunk in chunks for delta in chunk.deltas if isinstance(delta, TextDelta)}
    assert said == {0, 1}


async def test_vectors_of_the_same_text_are_the_same_and_have_a_bill(subject: Subject) -> None:
    request = EmbeddingRequest(subject.model, ["One text", "Another one", "One text"])
    if not isinstance(subject.provider, Embedder):
        with pytest.raises(UpstreamError, match="makes no embeddings"):
            await embed(subject.provider, request)
        return
    with fail_after(5):
        found = await embed(subject.provider, request)
    first, other, again = found.vectors
    assert list(first) == pytest.approx(list(again), abs=1e-3)
    assert list(first) != pytest.approx(list(other), abs=1e-3)
    assert len(first) == len(other) > 1
    assert found.usage is not None
    assert found.usage.provenance is Provenance.EXACT
    assert found.usage.prompt_tokens > 0


async def test_unknown_model_is_named_as_such(subject: Subject) -> None:
    with pytest.raises(UpstreamError) as caught:
        await gather(subject.selective, ChatRequest("nothing-like-it", [{"role": "user", "content": "Hi"}]))
    assert (caught.value.code, caught.value.is_retryable) == (ErrorCode.MODEL_NOT_FOUND, False)


async def test_concurrent_answers_do_not_mix(subject: Subject) -> None:
    answers = await asyncio.gather(*(gather(subject.speaker, subject.marked(word)) for word in WORDS))
    for word, chunks in zip(WORDS, answers, strict=True):
        assert [other for other in WORDS if other in text_of(chunks)] == [word]
        assert len(finishes_of(chunks)) == 1


async def test_one_piece_of_rubbish_in_the_messages_breaks_nothing(subject: Subject) -> None:
    request = ChatRequest(
        subject.model, [{"role": "user", "content": "\x00 \U0001f600 {0} %s \u202e"}], {"max_tokens": 2}
    )
    assert finishes_of(await gather(subject.provider, request))
