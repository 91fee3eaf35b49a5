"""What users prefer: how they want to be answered, by which model, with what else. Only what was set is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from db import settings
from db.base import now
from db.models import User, UserSettings
from engine.providers.base import ChatMessage
from resolvers import memories
from resolvers.access import READ, WRITE, clean_object, require
from resolvers.call import Call
from resolvers.errors import InvalidInput, Unauthenticated
from resolvers.memories import Memory
from resolvers.parameters import explained

LARGEST = 32_768
SECTIONS = ("memory_config", "profile_settings", "advanced_settings", "preferences", "tool_policy")
# Other clients' names for the same fields, by section.
ALIASES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "memory_config": {"max_items": "max_user_items"},
        "profile_settings": {"nickname": "nick_name"},
        "advanced_settings": {"web_search_enabled": "web_search", "code_execution_enabled": "code_enabled"},
    }
)

BaseStyle = Literal["Concise", "Friendly", "Professional"]
LongText = Annotated[str, Meta(max_length=8_000)]
ShortText = Annotated[str, Meta(max_length=200)]
Few = Annotated[int, Meta(ge=0, le=20)]


class MemoryConfig(msgspec.Struct, frozen=True):
    enabled: bool = True
    observe_enabled: bool = True
    inject_user_core: bool = True
    inject_semantic: bool = True
    inject_episodic: bool = False
    max_user_items: Few = 3
    max_project_items: Annotated[int, Meta(ge=0, le=50)] = 5
    max_episodic_items: Few = 3
    min_similarity: Annotated[float, Meta(ge=0, le=1)] = 0.75


class Profile(msgspec.Struct, frozen=True):
    base_style: BaseStyle = "Friendly"
    custom_instructions: LongText = ""
    nick_name: ShortText = ""
    occupation: ShortText = ""
    more_about_you: LongText = ""


class Advanced(msgspec.Struct, frozen=True):
    web_search: bool = False
    code_enabled: bool = False


class Preferences(msgspec.Struct, frozen=True):
    """Those that this server knows; clients keep others beside them."""

    selected_model: ShortText = ""
    enable_deep_research: bool = False
    enable_thinking: bool = False
    enable_search: bool = True
    enable_browser: bool = False


Patterns = Annotated[list[Annotated[str, Meta(min_length=1, max_length=100)]], Meta(max_length=200)]


class ToolPolicy(msgspec.Struct, frozen=True):
    """Patterns of tools' names (`*` for any characters): whose calls the user wants to allow each, but for those in `allow`."""

    require_approval: Patterns = []
    allow: Patterns = []


class _Known(msgspec.Struct, frozen=True):
    memory_config: MemoryConfig = MemoryConfig()
    profile_settings: Profile = Profile()
    advanced_settings: Advanced = Advanced()
    preferences: Preferences = Preferences()
    tool_policy: ToolPolicy = ToolPolicy()
    enable_trace: bool = False
    enable_tools: bool = True


FIELDS = frozenset(_Known.__struct_fields__)


@dataclass(frozen=True, slots=True)
class Settings:
    """All of them, what was never set with its default. `kept` are the preferences that only clients understand."""

    user_id: str
    memory: MemoryConfig
    profile: Profile
    advanced: Advanced
    preferences: Preferences
    kept: Mapping[str, object]
    memories: Sequence[Memory]
    is_traced: bool
    uses_tools: bool
    tool_policy: ToolPolicy
    created_at: datetime
    updated_at: datetime


async def get(call: Call) -> Settings:
    """The caller's."""
    caller = require(call, READ)
    async with call.read() as session:
        found = await settings.get(session, caller.user_id)
    if found is None:
        raise Unauthenticated("The user is no longer there")
    return _whole(call, *found)


async def by_users(call: Call, user_ids: Sequence[str]) -> list[Settings | None]:
    """None for everybody but the caller."""
    caller = require(call, READ)
    own = await get(call) if caller.user_id in user_ids else None
    return [own if id == caller.user_id else None for id in user_ids]


async def update(call: Call, *changes: Mapping[str, object]) -> Settings:
    """Changes what is named, section by section and field by field; None gives a field or a section its default back.

    Of several changes all are made, one after the other, or none. Names that mean nothing here are passed over. Raises
    InvalidInput naming the field at fault.
    """
    caller = require(call, WRITE)
    wanted = [clean_object(change, "settings", largest=LARGEST) for change in changes]
    moment = now()
    async with call.write() as session:
        row = await settings.held(session, caller.user_id, moment)
        if row is None:
            raise Unauthenticated("The user is no longer there")
        values: Mapping[str, object] = row.values
        for change in wanted:
            values = _merged(values, {name: value for name, value in change.items() if name in FIELDS})
        _known(values)
        row.values, row.updated_at = _checked(values), moment
        await session.flush()
        found = await settings.get(session, caller.user_id)
    assert found is not None, "the row is held"
    return _whole(call, *found)


async def allow_tool(call: Call, name: str) -> None:
    """The caller does not want to be asked about this tool any more."""
    found = (await get(call)).tool_policy
    if name not in found.allow:
        await update(call, {"tool_policy": {"allow": [*found.allow, name]}})


def checked(given: Mapping[str, object]) -> dict[str, object]:
    """What is kept of these settings for somebody who has set none. Raises InvalidInput naming the field at fault."""
    own = {name: value for name, value in given.items() if name in FIELDS}
    values = _merged({}, clean_object(own, "settings", largest=LARGEST))
    _known(values)
    remembered = memories.checked(given.get(memories.FIELD))
    return values | {memories.FIELD: remembered} if remembered else values


@dataclass(frozen=True, slots=True)
class Manner:
    """How a user wants to be answered: put before the prompt, and the model where none is named (None for the server's). Then
    whether tools may be offered, and which of them may not run without the user's leave."""

    messages: tuple[ChatMessage, ...] = ()
    model: str | None = None
    uses_tools: bool = True
    tool_policy: ToolPolicy = dataclasses.field(default_factory=ToolPolicy)


async def manner(call: Call, user_id: str) -> Manner:
    async with call.read() as session:
        found = await settings.get(session, user_id)
    if found is None:
        return Manner()
    user, row = found
    values = row.values if row is not None else {}
    text = "\n".join([*_introduction(values), *_recalled(values)])
    known = _known(values)
    said: tuple[ChatMessage, ...] = ({"role": "system", "content": text},) if text else ()
    return Manner(said, _model(call, user, known), known.enable_tools, known.tool_policy)


def _model(call: Call, user: User, known: _Known) -> str | None:
    """The one that was chosen last, of those that there are."""
    for name in (known.preferences.selected_model, user.preferred_model):
        if name and call.services.registry.find(name) is not None:
            return name
    return None


def _introduction(values: Mapping[str, object]) -> list[str]:
    """What a model is told of its user; nothing where the user has said nothing, a default says nothing either."""
    profile = _known(values).profile_settings
    said = values.get("profile_settings")
    lines = []
    if isinstance(said, Mapping) and "base_style" in said:
        lines.append(f"Answer in a {profile.base_style.lower()} style.")
    if profile.nick_name:
        lines.append(f"Call the user {profile.nick_name}.")
    if profile.occupation:
        lines.append(f"The user's occupation: {profile.occupation}")
    if profile.more_about_you:
        lines.append(f"About the user: {profile.more_about_you}")
    if profile.custom_instructions:
        lines.append(f"The user's instructions: {profile.custom_instructions}")
    return lines


def _recalled(values: Mapping[str, object]) -> list[str]:
    """The newest of what the user wants to be remembered, as many as the user allows."""
    bounds = _known(values).memory_config
    if not bounds.enabled or not bounds.inject_user_core:
        return []
    found = memories.of(values)[: bounds.max_user_items]
    return ["Remember of the user:", *(f"- {one.text}" for one in found)] if found else []


def _checked(values: Mapping[str, object]) -> dict[str, object]:
    """What is to be kept. Raises InvalidInput when all that was set together is too much."""
    own = {name: value for name, value in values.items() if name != memories.FIELD}
    clean_object(own, "settings", largest=LARGEST)
    return dict(values)


def _merged(before: Mapping[str, object], change: Mapping[str, object]) -> dict[str, object]:
    after = dict(before)
    for name, value in change.items():
        if value is None:
            after.pop(name, None)
        elif name in SECTIONS:
            if not isinstance(value, Mapping):
                raise InvalidInput(f"{name} must be an object", field=name)
            after[name] = _section(name, after.get(name), value)
        else:
            after[name] = value
    return after


def _section(name: str, before: object, change: Mapping[str, object]) -> dict[str, object]:
    aliases = ALIASES.get(name, {})
    after = dict(before) if isinstance(before, Mapping) else {}
    for field, value in change.items():
        # Of two names for one field the field's own wins.
        if field in aliases and aliases[field] in change:
            continue
        own = aliases.get(field, field)
        if name != "preferences" and own not in _fields(name):
            continue
        if value is None:
            after.pop(own, None)
        else:
            after[own] = value
    return after


def _fields(section: str) -> tuple[str, ...]:
    return getattr(_Known(), section).__struct_fields__  # type: ignore[no-any-return]  # every section is a struct


def _known(values: Mapping[str, object]) -> _Known:
    """Raises InvalidInput naming the field that is out of its bounds."""
    try:
        return msgspec.convert(values, _Known)
    except msgspec.ValidationError as error:
        raise explained(error) from error


def _whole(call: Call, user: User, row: UserSettings | None) -> Settings:
    values = row.values if row is not None else {}
    known = _known(values)
    chosen = values.get("preferences")
    kept = dict(chosen) if isinstance(chosen, Mapping) else {}
    preferences = known.preferences
    if not preferences.selected_model:
        entry = call.services.registry.default
        name = _model(call, user, known) or (entry.name if entry is not None else "")
        preferences = msgspec.structs.replace(preferences, selected_model=name)
    return Settings(
        user_id=user.id,
        memory=known.memory_config,
        profile=known.profile_settings,
        advanced=known.advanced_settings,
        preferences=preferences,
        kept={name: value for name, value in kept.items() if name not in Preferences.__struct_fields__},
        memories=memories.of(values),
        is_traced=known.enable_trace,
        uses_tools=known.enable_tools,
        tool_policy=known.tool_policy,
        created_at=row.created_at if row is not None else user.created_at,
        updated_at=row.updated_at if row is not None else user.created_at,
    )
