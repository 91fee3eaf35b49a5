"""What the viewer prefers."""

from collections.abc import Iterator, Mapping
from enum import Enum
from types import MappingProxyType

import strawberry

from graph.relay import Info, Input, resolved
from graph.types.payload import mendable
from graph.types.settings import (
    AddMemoryInput,
    AddMemoryPayload,
    DeleteMemoryInput,
    DeleteMemoryPayload,
    Memory,
    UpdateSettingsInput,
    UpdateSettingsPayload,
    UserSettings,
)
from resolvers import memories, settings
from resolvers.errors import InvalidInput

# Where the resolver has what an input names: a section and a field of it, or a field of its own.
_PLACES: Mapping[str, str] = MappingProxyType(
    {
        "base_style": "profile_settings.base_style",
        "nick_name": "profile_settings.nick_name",
        "occupation": "profile_settings.occupation",
        "custom_instructions": "profile_settings.custom_instructions",
        "more_about_you": "profile_settings.more_about_you",
        "selected_model": "preferences.selected_model",
        "is_web_search_enabled": "advanced_settings.web_search",
        "is_code_enabled": "advanced_settings.code_enabled",
        "is_traced": "enable_trace",
        "uses_tools": "enable_tools",
        "tools_to_approve": "tool_policy.require_approval",
        "approved_tools": "tool_policy.allow",
        "is_enabled": "memory_config.enabled",
        "observes": "memory_config.observe_enabled",
        "injects_user_core": "memory_config.inject_user_core",
        "injects_semantic": "memory_config.inject_semantic",
        "injects_episodic": "memory_config.inject_episodic",
        "max_user_items": "memory_config.max_user_items",
        "max_project_items": "memory_config.max_project_items",
        "max_episodic_items": "memory_config.max_episodic_items",
        "min_similarity": "memory_config.min_similarity",
    }
)
_SECTIONS = {"memory": "memory_config", "preferences": "preferences"}
_NAMES = {place: name for name, place in _PLACES.items()}


@strawberry.type
class SettingsMutations:
    @resolved("Changes what the viewer prefers.")
    @mendable(UpdateSettingsPayload)
    async def update_settings(self, info: Info, input: Input[UpdateSettingsInput]) -> UpdateSettingsPayload:
        try:
            found = await settings.update(info.context.call, *_changes(input))
        except InvalidInput as error:
            # It is told under the name that it has here.
            field = _NAMES.get(error.field or "", error.field)
            raise InvalidInput(error.message, field=field, code=error.reason) from error
        info.context.loaders.forget()
        return UpdateSettingsPayload(settings=UserSettings.from_settings(found))

    @resolved("Adds something that models are to remember of the viewer.")
    @mendable(AddMemoryPayload)
    async def add_memory(self, info: Info, input: Input[AddMemoryInput]) -> AddMemoryPayload:
        found = await memories.add(input.call(info), input.text)
        info.context.loaders.forget()
        return AddMemoryPayload(memory=Memory.from_memory(found))

    @resolved("Forgets something, for good.")
    @mendable(DeleteMemoryPayload)
    async def delete_memory(self, info: Info, input: Input[DeleteMemoryInput]) -> DeleteMemoryPayload:
        await memories.delete(info.context.call, input.id)
        info.context.loaders.forget()
        return DeleteMemoryPayload(deleted_id=input.id)


def _changes(input: UpdateSettingsInput) -> Iterator[dict[str, object]]:
    """First the sections that are given their defaults back, then the fields."""
    given = _given(input)
    sections = {name: given.pop(name) for name in ("memory", "preferences") if name in given}
    yield {_SECTIONS[name]: None for name, value in sections.items() if value is None}
    if sections.get("preferences") is not None:
        yield {"preferences": sections["preferences"]}
    if sections.get("memory") is not None:
        given |= _given(sections["memory"])
    for name, value in given.items():
        section, _, field = _PLACES[name].rpartition(".")
        plain = value.value if isinstance(value, Enum) else value
        yield {section: {field: plain}} if section else {field: plain}


def _given(input: object) -> dict[str, object]:
    return {name: value for name, value in vars(input).items() if value is not strawberry.UNSET}
