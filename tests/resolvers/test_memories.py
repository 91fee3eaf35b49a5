"""Memories that come with an import are checked like any others."""

from __future__ import annotations

import pytest

from resolvers import memories, settings
from resolvers.errors import InvalidInput


def test_imported_settings_keep_their_memories_under_new_ids() -> None:
    kept = [{"id": "mem_1", "text": text, "created_at": "2026-01-01T00:00:00+00:00"} for text in ("old", "new")]
    found = settings.checked({"enable_trace": True, "memories": kept, "unknown": 1})
    assert found.keys() == {"enable_trace", "memories"}
    assert [memory.text for memory in memories.of(found)] == ["new", "old"]
    assert "mem_1" not in {memory.id for memory in memories.of(found)}
    assert settings.checked({"memories": []}) == settings.checked({"memories": "nonsense"}) == {}


@pytest.mark.parametrize(
    "kept", [[{"text": "x" * 501}], [{"text": ""}], [{"text": "a\0b"}], [{}], [{"text": "x"}] * 101]
)
def test_unacceptable_memories_are_refused(kept: list[dict[str, object]]) -> None:
    with pytest.raises(InvalidInput, match="memories"):
        settings.checked({"memories": kept})
