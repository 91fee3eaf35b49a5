"""What users prefer."""

from datetime import datetime
from enum import Enum

import strawberry
from strawberry.scalars import JSON

from graph.types.payload import UserError
from graph.types.repetition import Repeatable
from resolvers import memories
from resolvers.settings import Settings


@strawberry.enum(description="How a user likes to be answered.")
class BaseStyle(Enum):
    CONCISE = strawberry.enum_value("Concise", description="In few words.")
    FRIENDLY = strawberry.enum_value("Friendly", description="Warmly.")
    PROFESSIONAL = strawberry.enum_value("Professional", description="As at work.")


@strawberry.type(description="What is remembered of a user's conversations, and brought back into others.")
class MemorySettings:
    is_enabled: bool = strawberry.field(description="Whether anything is.")
    observes: bool = strawberry.field(description="Whether new things are remembered.")
    injects_user_core: bool = strawberry.field(description="Whether what is known of the user is brought back.")
    injects_semantic: bool = strawberry.field(description="Whether what fits the subject is brought back.")
    injects_episodic: bool = strawberry.field(description="Whether what happened lately is brought back.")
    max_user_items: int = strawberry.field(description="At most so many things about the user: 0 to 20.")
    max_project_items: int = strawberry.field(description="At most so many things about the project: 0 to 50.")
    max_episodic_items: int = strawberry.field(description="At most so many things that happened: 0 to 20.")
    min_similarity: float = strawberry.field(description="How well they must fit: 0 to 1.")


@strawberry.type(description="Something that models are to remember of the user.")
class Memory:
    id: strawberry.ID = strawberry.field(description="ID of it.")
    text: str = strawberry.field(description="What is to be remembered.")
    created_at: datetime = strawberry.field(description="When it was added.")

    @classmethod
    def from_memory(cls, found: memories.Memory) -> "Memory":
        return cls(id=strawberry.ID(found.id), text=found.text, created_at=found.created_at)


@strawberry.type(description="What a user prefers; what they never set has its default.")
class UserSettings:
    base_style: BaseStyle = strawberry.field(description="How models are to answer.")
    nick_name: str = strawberry.field(description="What models call the user.")
    occupation: str = strawberry.field(description="What the user does.")
    custom_instructions: str = strawberry.field(description="What models are told before every conversation.")
    more_about_you: str = strawberry.field(description="What else models are told of the user.")
    selected_model: str = strawberry.field(description="The model that answers where none is named.")
    is_web_search_enabled: bool = strawberry.field(description="Whether models may search the web.")
    is_code_enabled: bool = strawberry.field(description="Whether models may run code.")
    is_traced: bool = strawberry.field(description="Whether runs are traced for the user.")
    uses_tools: bool = strawberry.field(description="Whether models are offered tools.")
    tools_to_approve: list[str] = strawberry.field(
        description="Names of tools whose calls wait for the user's leave; `*` stands for any characters."
    )
    approved_tools: list[str] = strawberry.field(
        description="Names of tools that are exempt from that; `*` stands for any characters."
    )
    memory: MemorySettings = strawberry.field(description="What is remembered.")
    memories: list[Memory] = strawberry.field(
        description="What models are to remember, the newest first: at most 100. How many reach them is in `memory`."
    )
    preferences: JSON = strawberry.field(description="What clients keep beside all that.")
    updated_at: datetime = strawberry.field(description="When they last changed.")

    @classmethod
    def from_settings(cls, found: Settings) -> "UserSettings":
        memory = found.memory
        return cls(
            base_style=BaseStyle(found.profile.base_style),
            nick_name=found.profile.nick_name,
            occupation=found.profile.occupation,
            custom_instructions=found.profile.custom_instructions,
            more_about_you=found.profile.more_about_you,
            selected_model=found.preferences.selected_model,
            is_web_search_enabled=found.advanced.web_search,
            is_code_enabled=found.advanced.code_enabled,
            is_traced=found.is_traced,
            uses_tools=found.uses_tools,
            tools_to_approve=found.tool_policy.require_approval,
            approved_tools=found.tool_policy.allow,
            memory=MemorySettings(
                is_enabled=memory.enabled,
                observes=memory.observe_enabled,
                injects_user_core=memory.inject_user_core,
                injects_semantic=memory.inject_semantic,
                injects_episodic=memory.inject_episodic,
                max_user_items=memory.max_user_items,
                max_project_items=memory.max_project_items,
                max_episodic_items=memory.max_episodic_items,
                min_similarity=memory.min_similarity,
            ),
            memories=[Memory.from_memory(one) for one in found.memories],
            preferences=JSON(dict(found.kept)),
            updated_at=found.updated_at,
        )


@strawberry.input(description="What to change of it. What is left out stays, null gives the default back.")
class MemorySettingsInput:
    is_enabled: bool | None = strawberry.field(default=strawberry.UNSET, description="Whether anything is remembered.")
    observes: bool | None = strawberry.field(default=strawberry.UNSET, description="Whether new things are.")
    injects_user_core: bool | None = strawberry.field(
        default=strawberry.UNSET, description="Whether what is known of the user is brought back."
    )
    injects_semantic: bool | None = strawberry.field(
        default=strawberry.UNSET, description="Whether what fits the subject is brought back."
    )
    injects_episodic: bool | None = strawberry.field(
        default=strawberry.UNSET, description="Whether what happened lately is brought back."
    )
    max_user_items: int | None = strawberry.field(
        default=strawberry.UNSET, description="At most so many things about the user: 0 to 20."
    )
    max_project_items: int | None = strawberry.field(
        default=strawberry.UNSET, description="At most so many things about the project: 0 to 50."
    )
    max_episodic_items: int | None = strawberry.field(
        default=strawberry.UNSET, description="At most so many things that happened: 0 to 20."
    )
    min_similarity: float | None = strawberry.field(
        default=strawberry.UNSET, description="How well they must fit: 0 to 1."
    )


@strawberry.input(description="What to change of it. What is left out stays, null gives the default back.")
class UpdateSettingsInput:
    base_style: BaseStyle | None = strawberry.field(default=strawberry.UNSET, description="How models are to answer.")
    nick_name: str | None = strawberry.field(
        default=strawberry.UNSET, description="What models call the user: at most 200 characters."
    )
    occupation: str | None = strawberry.field(
        default=strawberry.UNSET, description="What the user does: at most 200 characters."
    )
    custom_instructions: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="What models are told before every conversation: at most 8,000 characters.",
    )
    more_about_you: str | None = strawberry.field(
        default=strawberry.UNSET, description="What else models are told of the user: at most 8,000 characters."
    )
    selected_model: str | None = strawberry.field(
        default=strawberry.UNSET, description="The model that answers where none is named."
    )
    is_web_search_enabled: bool | None = strawberry.field(
        default=strawberry.UNSET, description="Whether models may search the web."
    )
    is_code_enabled: bool | None = strawberry.field(
        default=strawberry.UNSET, description="Whether models may run code."
    )
    is_traced: bool | None = strawberry.field(
        default=strawberry.UNSET, description="Whether runs are traced for the user."
    )
    uses_tools: bool | None = strawberry.field(
        default=strawberry.UNSET, description="Whether models are offered tools."
    )
    tools_to_approve: list[str] | None = strawberry.field(
        default=strawberry.UNSET,
        description="Names or patterns of tools whose calls are to wait for leave: at most 200.",
    )
    approved_tools: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="Names or patterns of tools that are exempt from that: at most 200."
    )
    memory: MemorySettingsInput | None = strawberry.field(default=strawberry.UNSET, description="What is remembered.")
    preferences: JSON | None = strawberry.field(
        default=strawberry.UNSET,
        description="What clients keep: an object, merged key by key; a key of null is removed.",
    )


@strawberry.input(description="Something to remember.")
class AddMemoryInput(Repeatable):
    text: str = strawberry.field(description="What is to be remembered: 1 to 500 characters.")


@strawberry.input(description="Something to forget.")
class DeleteMemoryInput:
    id: strawberry.ID = strawberry.field(description="ID of the memory.")


@strawberry.type(description="What adding a memory gives.")
class AddMemoryPayload:
    memory: Memory | None = strawberry.field(default=None, description="What is remembered.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")


@strawberry.type(description="What deleting a memory gives.")
class DeleteMemoryPayload:
    deleted_id: strawberry.ID | None = strawberry.field(default=None, description="ID of what is forgotten.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")


@strawberry.type(description="What changing settings gives.")
class UpdateSettingsPayload:
    settings: UserSettings | None = strawberry.field(default=None, description="The settings as they are now.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")
