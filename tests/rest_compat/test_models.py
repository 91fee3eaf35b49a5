"""The catalogue as users meet it: what there is, what it can do, whether it would answer, and what is refused before it is asked."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from db.base import Database
from engine.events import ErrorCode
from engine.prices import Prices
from engine.providers.base import ChatRequest, Chunk, ModelInfo, UpstreamError
from engine.providers.breaker import IN_A_ROW, Guarded
from engine.providers.demo import DemoProvider
from engine.providers.registry import NameTerms, ProviderTerms, Terms
from tests.house import House, house
from tests.rest_compat.conftest import Site, running

pytestmark = pytest.mark.anyio

TOO_LONG = " ".join(f"word{number}" for number in range(20_000))


class Shop(DemoProvider):
    """A provider of models that can do this and that; what it is asked it answers as the demo does."""

    def __init__(self) -> None:
        super().__init__(pace=0)
        self.name = "shop"
        self.failure: UpstreamError | None = None
        self.asked = 0

    async def models(self) -> Sequence[ModelInfo]:
        if self.failure is not None:
            raise self.failure
        able = frozenset({"chat", "tools", "browser"})
        prices = Prices(0.15, 0.6, 0.075)
        return [
            ModelInfo("maker/seer", "Seer", 64, 1_700_000_000, frozenset({"chat", "vision"}), max_output=32),
            ModelInfo("walker", capabilities=able, prices=prices, context_length=128_000, max_output=4096),
        ]

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk]:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        yield Chunk()


@pytest.fixture
async def shop(database: Database) -> AsyncIterator[tuple[Site, Shop]]:
    provider = Shop()
    async with running(database, Guarded(provider)) as site:
        yield site, provider


async def listed(site: Site, **query: str) -> list[str]:
    answer = await site.client.get("/v1/models/catalogs", params=query)
    return [one["id"] for one in answer.json()["data"]]


def problem(answer: httpx2.Response) -> tuple[int, str, str]:
    body = answer.json()
    return answer.status_code, body["error"]["code"], body["error"]["message"]


async def complete(site: Site, model: str, **more: object) -> httpx2.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], **more}
    return await site.client.post("/v1/chat/completions", json=body)


async def test_catalogue_is_narrowed_by_what_models_can_do_and_who_serves_them(shop: tuple[Site, Shop]) -> None:
    site, _ = shop
    assert await listed(site) == ["maker/seer", "walker", "demo"]
    assert await listed(site, capability="browser") == ["walker"]
    assert await listed(site, capability="chat,vision") == ["maker/seer"]
    assert await listed(site, provider="shop") == ["maker/seer", "walker"]
    assert await listed(site, search="SEE") == ["maker/seer"]
    answer = await site.client.get("/v1/models/catalogs", params={"capability": "flight"})
    known = "The capabilities are chat, vision, tools, reasoning, embeddings, audio, browser"
    assert problem(answer) == (400, "invalid_request", known)


async def test_catalogue_tells_all_that_is_known_of_a_model(shop: tuple[Site, Shop]) -> None:
    site, _ = shop
    found = (await site.client.get("/v1/models/catalogs/walker")).json()
    data = found.pop("data")
    assert data == found
    said = ("id", "name", "provider", "available", "capabilities", "context_length", "max_output_tokens")
    assert [found[name] for name in said] == [
        "walker",
        "walker",
        "shop",
        True,
        ["browser", "chat", "tools"],
        128_000,
        4096,
    ]
    kinds = ("input", "output", "cached")
    assert [found[f"cost_per_million_{kind}_tokens"] for kind in kinds] == [0.15, 0.6, 0.075]
    assert (found["supports_tools"], found["supports_browser"], found["supports_images"]) == (True, True, False)
    for path in ("maker/seer", "maker%2Fseer"):
        one = (await site.client.get(f"/v1/models/catalogs/{path}")).json()
        assert (one["id"], one["architecture"]["modality"]) == ("maker/seer", "text+image->text")


async def test_list_has_pages_and_tells_of_providers_where_it_is_asked_to(shop: tuple[Site, Shop]) -> None:
    site, _ = shop
    site.services.registry.apply({}, {}, {"shop": ProviderTerms("prov_1", "openai")})
    first = (await site.client.get("/v1/models?limit=2", headers={"X-PROVIDER-DATA": "true"})).json()
    assert ([one["id"] for one in first["models"]], first["has_more"]) == (["maker/seer", "walker"], True)
    shown = [(one["provider_id"], one["provider_vendor"], one["provider_name"]) for one in first["data"]]
    assert shown == [("prov_1", "openai", "shop")] * 2
    rest = (await site.client.get("/v1/models", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert ([one["id"] for one in rest["data"]], rest["next_cursor"]) == (["demo"], None)
    assert "provider_id" not in rest["data"][0]
    assert (await site.client.get("/v1/models?modality=image")).json()["data"] == []


async def test_providers_are_told_with_those_that_could_be(shop: tuple[Site, Shop]) -> None:
    site, _ = shop
    known = (await site.client.get("/v1/providers")).json()
    assert known["data"] == known["providers"]
    assert known["providers"][0] == {
        "name": "shop",
        "configured": True,
        "available": True,
        "supported_modalities": ["text"],
    }
    others = {one["name"]: one["configured"] for one in known["providers"]}
    assert (others["demo"], others["anthropic"], others["groq"]) == (True, False, False)
    serving = (await site.client.get("/v1/models/providers")).json()
    assert [(one["name"], one["model_count"]) for one in serving] == [("shop", 2), ("demo", 1)]


async def test_schema_says_what_a_request_is_held_to(shop: tuple[Site, Shop]) -> None:
    site, provider = shop
    found = (await site.client.get("/v1/schema", params={"model": "walker"})).json()
    assert (found["model_id"], found["type"], found["properties"]["max_tokens"]["maximum"]) == (
        "walker",
        "object",
        4096,
    )
    assert found["properties"]["format"]["enum"] == ["json", "markdown", "text"]
    general = (await site.client.get("/v1/schema")).json()
    assert (general["model_id"], general["properties"]["max_tokens"]["maximum"]) == (None, 10_000_000)
    for parameters, field in (({"max_tokens": 5000}, "max_tokens"), ({"temperature": 3}, "temperature")):
        answer = await complete(site, "walker", **parameters)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)
    assert provider.asked == 0
    missing = await site.client.get("/v1/schema", params={"model": "walk"})
    assert problem(missing) == (404, "model_not_found", "model 'walk' not found; the nearest are walker")


async def test_model_that_is_switched_off_has_a_code_of_its_own(shop: tuple[Site, Shop]) -> None:
    site, provider = shop
    site.services.registry.apply({("shop", "walker", "walker"): Terms(is_enabled=False)}, {}, {})
    said = "The model 'walker' is switched off at present"
    assert problem(await complete(site, "walker")) == (404, "model_disabled", said)
    assert problem(await site.client.get("/v1/models/walker")) == (404, "model_disabled", said)
    assert await listed(site) == ["maker/seer", "demo"]
    site.services.registry.apply({}, {"maker/seer": NameTerms(is_enabled=False)}, {})
    assert problem(await complete(site, "maker/seer"))[:2] == (404, "model_disabled")
    assert provider.asked == 0


async def test_what_is_surely_too_long_is_refused_before_anybody_is_asked(shop: tuple[Site, Shop]) -> None:
    site, provider = shop
    message = [{"role": "user", "content": TOO_LONG}]
    said = "The messages are too long for 'maker/seer', which reads at most 64 tokens"
    answer = await complete(site, "maker/seer", messages=message)
    assert problem(answer) == (400, "context_length_exceeded", said)
    parts = [{"role": "user", "content": [{"type": "text", "text": TOO_LONG}]}]
    assert problem(await complete(site, "maker/seer", messages=parts))[1] == "context_length_exceeded"
    conversation = await site.conversation()
    body = {"role": "user", "content": TOO_LONG, "model": "maker/seer"}
    stored = await site.client.post(f"/v1/conversations/{conversation}/items", json=body)
    assert problem(stored)[1] == "context_length_exceeded"
    # Nothing of it is kept.
    assert (await site.client.get(f"/v1/conversations/{conversation}/items")).json()["data"] == []
    assert provider.asked == 0
    # What may fit is the provider's to judge: a long run of one character may be a token or a few.
    assert (await complete(site, "maker/seer", messages=[{"role": "user", "content": "=" * 20_000}])).status_code != 400
    assert provider.asked == 1


async def test_availability_is_that_of_the_provider_at_this_moment(shop: tuple[Site, Shop]) -> None:
    site, provider = shop

    async def seen() -> tuple[str, bool]:
        one = (await site.client.get("/v1/models/catalogs/walker")).json()
        return one["availability"], one["available"]

    assert await seen() == ("available", True)
    provider.failure = UpstreamError(ErrorCode.MODEL_NOT_FOUND, "no list here")
    await site.services.registry.refresh()
    assert await seen() == ("unknown", True)
    provider.failure = UpstreamError(ErrorCode.UNAVAILABLE, "away")
    await site.services.registry.refresh()
    assert await seen() == ("unavailable", False)
    assert "walker" not in await listed(site, available="true")
    provider.failure = None
    await site.services.registry.refresh()
    assert await seen() == ("available", True)
    provider.failure = UpstreamError(ErrorCode.UNAVAILABLE, "away")
    for _ in range(IN_A_ROW):
        assert (await complete(site, "walker")).status_code == 502
    assert await seen() == ("unavailable", False)


@pytest.fixture(scope="module")
async def found(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder: Path = tmp_path_factory.mktemp("models")
    async with house(folder, f"sqlite:///{folder / 'loquent.db'}") as one:
        yield one


async def asked(client: httpx2.AsyncClient, query: str, **variables: object) -> dict[str, Any]:
    with anyio.fail_after(10):
        answer = await client.post("/graphql", json={"query": query, "variables": variables})
    data: dict[str, Any] = answer.json()
    return data


async def test_graphql_tells_the_same(found: House) -> None:
    guest = await found.guest()
    answer = await asked(
        guest,
        """{
          models(filter: {capabilities: [CHAT], search: "dem", isAvailable: true}) { edges { node {
            name isEnabled isDefault availability maxOutput tags fallbacks contextLength
            prices { prompt completion cached } parameterSchema } } }
          none: models(filter: {capabilities: [BROWSER]}) { edges { cursor } }
          providers { name isConfigured isAvailable modelCount }
        }""",
    )
    schema = answer["data"]["models"]["edges"][0]["node"].pop("parameterSchema")
    assert schema["properties"]["temperature"]["maximum"] == 2
    assert answer["data"]["models"]["edges"][0]["node"] == {
        "name": "demo",
        "isEnabled": True,
        "isDefault": True,
        "availability": "AVAILABLE",
        "maxOutput": None,
        "tags": [],
        "fallbacks": [],
        "contextLength": 8192,
        "prices": {"prompt": 0, "completion": 0, "cached": None},
    }
    assert answer["data"]["none"] == {"edges": []}
    demo = {"name": "demo", "isConfigured": True, "isAvailable": True, "modelCount": 1}
    assert answer["data"]["providers"][0] == demo
    assert {"name": "groq", "isConfigured": False, "isAvailable": False, "modelCount": 0} in answer["data"]["providers"]


async def test_graphql_refuses_what_cannot_be_run_with_errors_that_a_program_can_tell_apart(found: House) -> None:
    guest = await found.guest()
    registry = found.services.registry
    known = registry.known

    async def error(options: str, text: str = "Hello") -> tuple[str, str]:
        query = f"""mutation($text: String!) {{
          generate(input: {{content: [{{text: $text}}], options: {options}}}) {{ errors {{ code message }} }}
        }}"""
        [one] = (await asked(guest, query, text=text))["data"]["generate"]["errors"]
        return one["code"], one["message"]

    assert (await error('{model: "dem"}'))[0] == "NOT_FOUND"
    assert (await error("{temperature: 3}"))[0] == "INVALID"
    assert (await error("{}", TOO_LONG))[0] == "CONTEXT_LENGTH_EXCEEDED"
    registry.apply({}, {"demo": NameTerms(is_enabled=False)}, known)
    try:
        assert await error('{model: "demo"}') == ("MODEL_DISABLED", "The model 'demo' is switched off at present")
        off = "{ models(filter: {isEnabled: false}) { edges { node { name isEnabled } } } }"
        assert (await asked(guest, off))["errors"][0]["extensions"]["code"] == "FORBIDDEN"
        assert (await asked(guest, '{ model(name: "demo") { name } }'))["data"] == {"model": None}
    finally:
        registry.apply({}, {}, known)
