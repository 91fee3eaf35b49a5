"""A server of Ollama's wire before the real engine: what it says comes from there, token by token.

It has a memory as Ollama has one: the first use loads a model, `keep_alive` says how long it stays, and what is used stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping

import aiohttp
from aiohttp import web

_CREATED = "2026-01-01T00:00:00.000000Z"
_SIZE = 5_000_000_000
_USUAL_SECONDS = 300.0
_ENGINE_OPTIONS = {
    "num_predict": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "stop": "stop",
}


class OllamaServer:
    """`models` are those it has. `loading`: loads wait for it. `asked` are the bodies of all requests, by path."""

    def __init__(self, engine: str, *models: str) -> None:
        self.models = list(models)
        self.memory: dict[str, float] = {}
        self.asked: list[tuple[str, Mapping[str, object]]] = []
        self.loading = asyncio.Event()
        self.loading.set()
        self.broken: set[str] = set()
        self.address = ""
        self._engine = engine
        self._users: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[OllamaServer]:
        app = web.Application()
        app.router.add_get("/api/tags", self._tags)
        app.router.add_get("/api/ps", self._ps)
        for path, handler in (
            ("show", self._show),
            ("chat", self._chat),
            ("generate", self._generate),
            ("embed", self._embed),
        ):
            app.router.add_post(f"/api/{path}", handler)
        # Ollama stops when its client goes.
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            async with aiohttp.ClientSession() as self._session:
                yield self
        finally:
            await runner.cleanup()

    async def _tags(self, _: web.Request) -> web.Response:
        details = {"format": "gguf", "family": "llama", "parameter_size": "0.1M", "quantization_level": "F32"}
        models = [
            {
                "name": name,
                "model": name,
                "modified_at": _CREATED,
                "size": _SIZE,
                "digest": f"sha-{name}",
                "details": details,
            }
            for name in self.models
        ]
        return web.json_response({"models": models})

    async def _ps(self, _: web.Request) -> web.Response:
        models = [
            {
                "name": name,
                "model": name,
                "size": _SIZE,
                "size_vram": 0,
                "expires_at": _CREATED,
                "digest": f"sha-{name}",
            }
            for name in self.memory
        ]
        return web.json_response({"models": models})

    async def _show(self, request: web.Request) -> web.Response:
        asked = await self._read(request)
        self._whole_name(asked)
        info = {"general.architecture": "llama", "llama.context_length": 16384}
        return web.json_response({"capabilities": ["completion", "tools"], "model_info": info, "details": {}})

    async def _generate(self, request: web.Request) -> web.Response:
        """Only as it is asked in order to load or to unload."""
        asked = await self._read(request)
        name = self._whole_name(asked)
        reason = "load"
        if asked.get("keep_alive") == 0:
            reason = "unload"
            self.memory[name] = 0
            self._leave(name)
        else:
            await self._enter(name, asked)
        answer = {"model": name, "created_at": _CREATED, "response": "", "done": True, "done_reason": reason}
        return web.json_response(answer)

    async def _embed(self, request: web.Request) -> web.Response:
        asked = await self._read(request)
        name = self._whole_name(asked)
        await self._enter(name, asked)
        async with self._session.post(f"{self._engine}/embeddings", json={"input": asked["input"]}) as answer:
            found = await answer.json()
        vectors = [one["embedding"] for one in found["data"]]
        bill = {"prompt_eval_count": found["usage"]["prompt_tokens"]}
        return web.json_response({"model": name, "embeddings": vectors, **bill})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        asked = await self._read(request)
        name = self._whole_name(asked)
        self._users[name] += 1
        try:
            await self._enter(name, asked)
            if asked.get("stream") is False:
                return await self._answer_whole(asked, name)
            return await self._answer(request, asked, name)
        finally:
            self._users[name] -= 1
            self._leave(name)

    async def _answer_whole(self, asked: Mapping[str, object], name: str) -> web.Response:
        async with self._session.post(f"{self._engine}/chat/completions", json=_translated(asked)) as answer:
            found = await answer.json()
        choice = found["choices"][0]
        return web.json_response(_last(name, choice["message"]["content"], choice["finish_reason"], found["usage"]))

    async def _answer(self, request: web.Request, asked: Mapping[str, object], name: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        body = _translated(asked) | {"stream": True, "stream_options": {"include_usage": True}}
        async with self._session.post(f"{self._engine}/chat/completions", json=body) as answer:
            await response.prepare(request)
            reason = ""
            async for line in answer.content:
                if not line.startswith(b"data: {"):
                    continue
                event = json.loads(line[6:])
                for choice in event.get("choices", ()):
                    reason = choice["finish_reason"] or reason
                    if text := choice["delta"].get("content"):
                        await _write(response, {**_head(name, text), "done": False})
                if event.get("usage"):
                    await _write(response, _last(name, "", reason, event["usage"]))
        return response

    async def _read(self, request: web.Request) -> dict[str, object]:
        asked: dict[str, object] = await request.json()
        self.asked.append((request.path, asked))
        return asked

    def _whole_name(self, asked: Mapping[str, object]) -> str:
        name = str(asked["model"])
        name = name if ":" in name else f"{name}:latest"
        if name not in self.models:
            message = json.dumps({"error": f"model '{asked['model']}' not found"})
            raise web.HTTPNotFound(text=message, content_type="application/json")
        return name

    async def _enter(self, name: str, asked: Mapping[str, object]) -> None:
        if name not in self.memory:
            await self.loading.wait()
        if name in self.broken:
            message = json.dumps({"error": "llama runner process has terminated: /root/.ollama/models/blobs/sha256"})
            raise web.HTTPInternalServerError(text=message, content_type="application/json")
        self.memory[name] = _seconds(asked.get("keep_alive"))

    def _leave(self, name: str) -> None:
        if not self._users[name] and self.memory.get(name) == 0:
            del self.memory[name]


def _seconds(keep_alive: object) -> float:
    """A number of seconds, or a text such as `60s`; negative for ever."""
    if keep_alive is None:
        return _USUAL_SECONDS
    return float(str(keep_alive).removesuffix("s"))


def _translated(asked: Mapping[str, object]) -> dict[str, object]:
    options = asked.get("options")
    found = {
        _ENGINE_OPTIONS[name]: value
        for name, value in (options.items() if isinstance(options, dict) else ())
        if name in _ENGINE_OPTIONS
    }
    if isinstance(form := asked.get("format"), dict):
        found["response_format"] = {"type": "json_schema", "json_schema": {"name": "form", "schema": form}}
    return {"messages": asked["messages"], **found}


def _head(name: str, text: str) -> dict[str, object]:
    return {"model": name, "created_at": _CREATED, "message": {"role": "assistant", "content": text}}


def _last(name: str, text: str, reason: str, usage: Mapping[str, int]) -> dict[str, object]:
    counts = {"prompt_eval_count": usage["prompt_tokens"], "eval_count": usage["completion_tokens"]}
    durations = {"total_duration": 1, "load_duration": 1, "prompt_eval_duration": 1, "eval_duration": 1}
    return {**_head(name, text), "done": True, "done_reason": reason, **counts, **durations}


async def _write(response: web.StreamResponse, line: Mapping[str, object]) -> None:
    await response.write(json.dumps(line).encode() + b"\n")
