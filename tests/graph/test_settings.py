"""What the viewer prefers, through the whole graph."""

from __future__ import annotations

import pytest

from tests.graph.schema_fixtures import Answer, Person, ann, bob, demo, services

__all__ = ["ann", "bob", "demo", "services"]

pytestmark = pytest.mark.anyio

FIELDS = """
baseStyle nickName occupation customInstructions moreAboutYou selectedModel isWebSearchEnabled isCodeEnabled isTraced usesTools
memory {
  isEnabled observes injectsUserCore injectsSemantic injectsEpisodic maxUserItems maxProjectItems maxEpisodicItems minSimilarity
}
preferences"""
READ = f"{{ viewer {{ settings {{ {FIELDS} }} }} }}"
UPDATE = f"""
mutation($input: UpdateSettingsInput!) {{
  updateSettings(input: $input) {{ settings {{ {FIELDS} }} errors {{ path code }} }}
}}"""
DEFAULTS: Answer = {
    "baseStyle": "FRIENDLY",
    "nickName": "",
    "occupation": "",
    "customInstructions": "",
    "moreAboutYou": "",
    "selectedModel": "demo",
    "isWebSearchEnabled": False,
    "isCodeEnabled": False,
    "isTraced": False,
    "usesTools": True,
    "memory": {
        "isEnabled": True,
        "observes": True,
        "injectsUserCore": True,
        "injectsSemantic": True,
        "injectsEpisodic": False,
        "maxUserItems": 3,
        "maxProjectItems": 5,
        "maxEpisodicItems": 3,
        "minSimilarity": 0.75,
    },
    "preferences": {},
}


async def update(person: Person, **input: object) -> Answer:
    answer: Answer = (await person.data(UPDATE, input=input))["updateSettings"]
    return answer


async def test_what_is_left_out_stays_and_null_gives_the_default_back(ann: Person, bob: Person) -> None:
    assert await ann.data(READ) == {"viewer": {"settings": DEFAULTS}}
    everything = {
        "baseStyle": "PROFESSIONAL",
        "nickName": "Ann",
        "occupation": "Pilot",
        "customInstructions": "Be exact.",
        "moreAboutYou": "I fly.",
        "selectedModel": "other",
        "isWebSearchEnabled": True,
        "isCodeEnabled": True,
        "isTraced": True,
        "usesTools": False,
        "memory": {
            "isEnabled": False,
            "observes": False,
            "injectsUserCore": False,
            "injectsSemantic": False,
            "injectsEpisodic": True,
            "maxUserItems": 1,
            "maxProjectItems": 2,
            "maxEpisodicItems": 4,
            "minSimilarity": 0.5,
        },
        "preferences": {"theme": "dark"},
    }
    assert await update(ann, **everything) == {"settings": everything, "errors": []}
    assert await update(ann) == {"settings": everything, "errors": []}
    part = await update(
        ann, nickName=None, memory={"maxUserItems": None, "minSimilarity": 1}, preferences={"theme": None}
    )
    memory = {**everything["memory"], "maxUserItems": 3, "minSimilarity": 1.0}  # type: ignore[dict-item]
    expected = everything | {"nickName": "", "memory": memory, "preferences": {}}
    assert part == {"settings": expected, "errors": []}
    assert await ann.data(READ) == {"viewer": {"settings": expected}}
    assert await update(ann, **dict.fromkeys(everything)) == {"settings": DEFAULTS, "errors": []}
    assert await bob.data(READ) == {"viewer": {"settings": DEFAULTS}}


@pytest.mark.parametrize(
    ("input", "path"),
    [
        ({"nickName": "x" * 201}, ["input", "nickName"]),
        ({"customInstructions": "x" * 8_001}, ["input", "customInstructions"]),
        ({"memory": {"maxUserItems": 21}}, ["input", "memory", "maxUserItems"]),
        ({"memory": {"minSimilarity": -0.1}}, ["input", "memory", "minSimilarity"]),
        ({"preferences": [1]}, ["input", "preferences"]),
        ({"preferences": {"enable_search": "yes"}}, ["input", "preferences"]),
    ],
)
async def test_unacceptable_value_is_told_with_its_place(
    ann: Person, input: dict[str, object], path: list[str]
) -> None:
    assert await update(ann, isTraced=True, **input) == {
        "settings": None,
        "errors": [{"path": path, "code": "INVALID"}],
    }
    assert await ann.data(READ) == {"viewer": {"settings": DEFAULTS}}


async def test_memories_are_added_shown_and_forgotten(ann: Person) -> None:
    add = "mutation($text: String!) { addMemory(input: {text: $text}) { memory { id text } errors { path code } } }"
    forget = "mutation($id: ID!) { deleteMemory(input: {id: $id}) { deletedId errors { path code } } }"
    shown = "{ viewer { settings { memories { id text } } } }"
    made = (await ann.data(add, text="Likes tea"))["addMemory"]
    assert made == {"memory": {"id": made["memory"]["id"], "text": "Likes tea"}, "errors": []}
    assert await ann.data(shown) == {"viewer": {"settings": {"memories": [made["memory"]]}}}
    refused = (await ann.data(add, text=" "))["addMemory"]
    assert refused == {"memory": None, "errors": [{"path": ["input", "text"], "code": "INVALID"}]}
    id = made["memory"]["id"]
    assert (await ann.data(forget, id=id))["deleteMemory"] == {"deletedId": id, "errors": []}
    missing = {"deletedId": None, "errors": [{"path": ["input", "id"], "code": "NOT_FOUND"}]}
    assert (await ann.data(forget, id=id))["deleteMemory"] == missing
    assert await ann.data(shown) == {"viewer": {"settings": {"memories": []}}}
