"""What users prefer. A field that has two names among clients is shown under both."""

from __future__ import annotations

import msgspec

from resolvers import settings
from resolvers.settings import ALIASES, Settings
from rest_compat import shapes
from rest_compat.endpoint import Ask, Reply
from rest_compat.shapes import JsonObject


class Capabilities(msgspec.Struct, frozen=True):
    """What this server can do beyond text."""

    image_generation_enabled: bool = False


class SettingsObject(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    user_id: str
    memory_config: JsonObject
    profile_settings: JsonObject
    advanced_settings: JsonObject
    tool_policy: JsonObject
    enable_trace: bool
    enable_tools: bool
    preferences: JsonObject
    server_capabilities: Capabilities = Capabilities()
    created_at: str
    updated_at: str


class PreferencesObject(msgspec.Struct, frozen=True):
    preferences: JsonObject


async def get(ask: Ask) -> Reply:
    return _reply(await settings.get(ask.call))


async def update(ask: Ask, change: dict[str, object]) -> Reply:
    return _reply(await settings.update(ask.call, change))


async def preferences(ask: Ask) -> Reply:
    return _preferences(await settings.get(ask.call))


async def update_preferences(ask: Ask, change: PreferencesObject) -> Reply:
    return _preferences(await settings.update(ask.call, {"preferences": change.preferences}))


def _reply(found: Settings) -> Reply:
    return Reply(
        shapes.merged(
            SettingsObject(
                id=found.user_id,
                user_id=found.user_id,
                memory_config=_section("memory_config", found.memory),
                profile_settings=_section("profile_settings", found.profile),
                advanced_settings=_section("advanced_settings", found.advanced),
                tool_policy=_section("tool_policy", found.tool_policy),
                enable_trace=found.is_traced,
                enable_tools=found.uses_tools,
                preferences=_chosen(found),
                created_at=shapes.moment(found.created_at),
                updated_at=shapes.moment(found.updated_at),
            )
        )
    )


def _preferences(found: Settings) -> Reply:
    return Reply(shapes.merged(PreferencesObject(_chosen(found))))


def _chosen(found: Settings) -> JsonObject:
    return {**_section("preferences", found.preferences), **found.kept}


def _section(name: str, section: msgspec.Struct) -> JsonObject:
    shown: JsonObject = msgspec.structs.asdict(section)
    return shown | {alias: shown[own] for alias, own in ALIASES.get(name, {}).items()}
