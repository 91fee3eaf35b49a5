"""What users prefer: kept field by field, checked, shown under all its names, and felt by the models."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import httpx2
import pytest

from db.base import Database
from engine.providers.registry import Place
from tests.rest_compat.conftest import Site, running

pytestmark = pytest.mark.anyio

PATH = "/v1/users/me/settings"
DEFAULTS: dict[str, Any] = {
    "memory_config": {
        "enabled": True,
        "observe_enabled": True,
        "inject_user_core": True,
        "inject_semantic": True,
        "inject_episodic": False,
        "max_user_items": 3,
        "max_project_items": 5,
        "max_episodic_items": 3,
        "min_similarity": 0.75,
        "max_items": 3,
    },
    "profile_settings": {
        "base_style": "Friendly",
        "custom_instructions": "",
        "nick_name": "",
        "occupation": "",
        "more_about_you": "",
        "nickname": "",
    },
    "advanced_settings": {
        "web_search": False,
        "code_enabled": False,
        "web_search_enabled": False,
        "code_execution_enabled": False,
    },
    "enable_trace": False,
    "enable_tools": True,
    "preferences": {
        "selected_model": "demo",
        "enable_deep_research": False,
        "enable_thinking": False,
        "enable_search": True,
        "enable_browser": False,
    },
    "tool_policy": {"require_approval": [], "allow": []},
    "server_capabilities": {"image_generation_enabled": False},
}


def settled(answer: httpx2.Response) -> dict[str, Any]:
    """The settings of an answer, which holds them twice, without who and when."""
    found: dict[str, Any] = answer.json()
    assert answer.status_code == 200, found
    assert found.pop("data") == found
    assert found.pop("id") == found.pop("user_id")
    assert found.pop("created_at") <= found.pop("updated_at")
    return found


async def test_settings_of_a_new_user_are_whole(site: Site) -> None:
    assert settled(await site.client.get(PATH)) == DEFAULTS


async def test_documented_update_keeps_what_it_does_not_name(site: Site) -> None:
    documented: dict[str, dict[str, object]] = {
        "profile_settings": {
            "base_style": "Professional",
            "nick_name": "Assistant Pro",
            "occupation": "Software Engineer",
        },
        "memory_config": {"min_similarity": 0.85, "max_items": 10},
        "advanced_settings": {"web_search_enabled": True, "code_execution_enabled": False},
    }
    expected = {
        **DEFAULTS,
        "profile_settings": {
            **DEFAULTS["profile_settings"],
            **documented["profile_settings"],
            "nickname": "Assistant Pro",
        },
        "memory_config": {
            **DEFAULTS["memory_config"],
            "min_similarity": 0.85,
            "max_items": 10,
            "max_user_items": 10,
        },
        "advanced_settings": {**DEFAULTS["advanced_settings"], "web_search": True, "web_search_enabled": True},
    }
    assert settled(await site.client.patch(PATH, json=documented)) == expected
    assert settled(await site.client.patch(PATH, json={"enable_trace": True})) == expected | {"enable_trace": True}
    # A field, and a whole section, get their defaults back.
    back = {"enable_trace": None, "memory_config": None, "profile_settings": {"nickname": None}}
    answer = settled(await site.client.patch(PATH, json=back))
    assert answer == {
        **expected,
        "memory_config": DEFAULTS["memory_config"],
        "profile_settings": {**expected["profile_settings"], "nick_name": "", "nickname": ""},
    }
    assert settled(await site.client.get(PATH)) == answer


async def test_preferences_keep_what_only_clients_understand(site: Site) -> None:
    path = f"{PATH}/preferences"
    first = await site.client.patch(path, json={"preferences": {"theme_color": "green", "enable_search": False}})
    second = await site.client.patch(path, json={"preferences": {"theme_config": {"dark": True}, "theme_color": None}})
    preferences = {**DEFAULTS["preferences"], "enable_search": False}
    assert first.json()["preferences"] == {**preferences, "theme_color": "green"}
    whole = {"preferences": {**preferences, "theme_config": {"dark": True}}}
    assert second.json() == {**whole, "data": whole}
    assert (await site.client.get(path)).json() == second.json()
    assert settled(await site.client.get(PATH)) == {**DEFAULTS, **whole}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"profile_settings": {"base_style": "Rude"}}, "profile_settings.base_style"),
        ({"profile_settings": {"nick_name": "x" * 201}}, "profile_settings.nick_name"),
        ({"profile_settings": {"nickname": 5}}, "profile_settings.nick_name"),
        ({"profile_settings": "Friendly"}, "profile_settings"),
        ({"profile_settings": {"custom_instructions": "a\0b"}}, "body"),
        ({"memory_config": {"min_similarity": 1.01}}, "memory_config.min_similarity"),
        ({"memory_config": {"max_items": 21}}, "memory_config.max_user_items"),
        ({"memory_config": {"max_project_items": -1}}, "memory_config.max_project_items"),
        ({"preferences": {"enable_search": "yes"}}, "preferences.enable_search"),
        ({"enable_trace": 1}, "enable_trace"),
        ({"preferences": {"theme": "x" * 40_000}}, "settings"),
    ],
)
async def test_unacceptable_value_is_named_and_nothing_is_changed(
    site: Site, change: dict[str, object], param: str
) -> None:
    answer = await site.client.patch(PATH, json={"enable_tools": False, **change})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert param.rpartition(".")[2] in answer.json()["message"]
    assert settled(await site.client.get(PATH)) == DEFAULTS


async def test_writers_of_different_fields_at_once_lose_nothing(site: Site) -> None:
    answers = await asyncio.gather(
        *(
            site.client.patch(f"{PATH}/preferences", json={"preferences": {f"key_{number}": number}})
            for number in range(20)
        )
    )
    assert {answer.status_code for answer in answers} == {200}
    kept = settled(await site.client.get(PATH))["preferences"]
    assert kept == {**DEFAULTS["preferences"], **{f"key_{number}": number for number in range(20)}}


async def test_settings_reach_the_prompt_before_the_conversation(site: Site) -> None:
    profile = {
        "base_style": "Concise",
        "nick_name": "Ann",
        "occupation": "Pilot",
        "more_about_you": "I fly at night.",
        "custom_instructions": "Use metric units.",
    }
    await site.client.patch(PATH, json={"profile_settings": profile})
    id = await site.conversation(items=[{"role": "system", "content": "Be exact."}])
    sent = await site.client.post(f"/v1/conversations/{id}/items", json={"role": "user", "content": "How far?"})
    run = site.services.supervisor.find(sent.json()["generation_id"])
    assert run is not None
    with anyio.fail_after(5):
        await run.ended()
    introduction = (
        "Answer in a concise style.\nCall the user Ann.\nThe user's occupation: Pilot\n"
        "About the user: I fly at night.\nThe user's instructions: Use metric units."
    )
    assert list(site.demo.history[-1].messages) == [
        {"role": "system", "content": introduction},
        {"role": "system", "content": "Be exact."},
        {"role": "user", "content": "How far?"},
    ]
    # What a program sends to the stateless completion is what the model is given.
    messages = [{"role": "user", "content": "Hi"}]
    await site.client.post("/v1/chat/completions", json={"messages": messages})
    assert list(site.demo.history[-1].messages) == messages


async def test_chosen_model_answers_where_none_is_named_if_there_is_such_a_model(database: Database) -> None:
    async with running(database, aliases={"mine": [Place("demo", "demo")], "other": [Place("demo", "demo")]}) as site:
        body = {"messages": [{"role": "user", "content": "Hi"}]}

        async def answering(**more: str) -> str:
            answer = await site.client.post("/v1/chat/completions", json={**body, **more})
            model: str = answer.json()["model"]
            return model

        default = await answering()
        await site.client.patch("/v1/users/me", json={"preferred_model": "other"})
        assert await answering() == "other"
        assert settled(await site.client.get(PATH))["preferences"]["selected_model"] == "other"
        await site.client.patch(PATH, json={"preferences": {"selected_model": "mine"}})
        assert await answering() == "mine"
        assert await answering(model="demo") == "demo"
        await site.client.patch("/v1/users/me", json={"preferred_model": None})
        await site.client.patch(PATH, json={"preferences": {"selected_model": "gone"}})
        assert await answering() == default
