"""Disallowed words: found however they are dressed, in time that grows with the text and no faster."""

from __future__ import annotations

import time

import pytest

from engine.tools.words import first_found, is_findable


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("rm -rf", "sudo RM   -RF /"),
        ("rm -rf", {"argv": ["rm", "-rf", "/"]}),
        ("rm -rf", {"rm": {"-rf": None}}),
        ("rm -rf", "r\u200bm\u2060 -\ufeffrf"),
        ("rm -rf", "ｒｍ　－ｒｆ"),
        ("RÉSUMÉ", "a re\u0301sume\u0301"),
        ("straße", "STRASSE"),
        ("(?i)menlo", "Menlo Park"),
        ("42", {"number": 42}),
        ("true", [True]),
    ],
)
def test_a_word_is_found(word: str, value: object) -> None:
    assert first_found(["never", word], value) == word


@pytest.mark.parametrize(
    ("word", "value"),
    [("rm -rf", "rm -r -f"), (".*", "anything"), ("(?i)", "anything"), ("\u200b", "anything"), ("None", {"a": None})],
)
def test_what_is_not_there_is_not_found(word: str, value: object) -> None:
    assert first_found([word], value) is None


def test_a_word_needs_something_to_look_for() -> None:
    assert [is_findable(word) for word in ("a", " ", "(?i)", "\u200b", "(?i)a")] == [True, False, False, False, True]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        # Marks that the library would put in order, in the square of their number.
        (["b"], "a" + "\u0300\u0323" * 60_000),
        # A character that becomes eighteen.
        (["b"], "\ufdfa" * 85_000),
        # What begins as the word does, at every place.
        ([f"{'a' * 150}{n}" for n in range(200)], "a" * 256_000),
        (["(a+)+$"] * 200, "a" * 256_000 + "b"),
        (["a a a a a a b"], "a " * 128_000),
    ],
)
def test_no_words_and_no_text_take_long(words: list[str], text: str) -> None:
    began = time.process_time()
    assert first_found(words, {"text": text}) is None
    assert time.process_time() - began < 1.5
