"""Cursors work where they were given out, and nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resolvers.errors import InvalidInput
from resolvers.paging import Cursors

KEY = ("2026-11-20T10:00:00+00:00", "conv_1")
CURSORS = Cursors(b"s" * 32)
MADE = CURSORS.make("conversations|ann", KEY)


def test_a_cursor_gives_back_its_key() -> None:
    assert CURSORS.read("conversations|ann", MADE) == list(KEY)


# Not the last letter: some of its bits may stand for nothing.
@given(place=st.integers(0, len(MADE) - 2), bit=st.integers(0, 5))
def test_a_cursor_with_any_bit_changed_is_refused(place: int, bit: int) -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    changed = letters[letters.index(MADE[place]) ^ (1 << bit)]
    with pytest.raises(InvalidInput) as refused:
        CURSORS.read("conversations|ann", MADE[:place] + changed + MADE[place + 1 :])
    assert (refused.value.reason, refused.value.field) == ("invalid_cursor", "after")


@given(st.text(max_size=200))
@example("")
@example(MADE[:-4])
@example(MADE + "AAAA")
@example("\ud800")
def test_what_was_not_given_out_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="does not belong"):
        CURSORS.read("conversations|ann", text)


def test_a_cursor_of_another_list_or_another_server_is_refused() -> None:
    for cursors, scope in ((CURSORS, "conversations|bob"), (Cursors(b"t" * 32), "conversations|ann")):
        with pytest.raises(InvalidInput):
            cursors.read(scope, MADE)
