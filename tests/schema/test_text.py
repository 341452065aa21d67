"""Texts to words: which words a text has, how often they occur, and what is kept of them."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkrec.errors import SchemaError
from sparkrec.schema.text import Text, idf, words


def lists(texts: list[str | None], **options: bool) -> list[list[str]]:
    found = words(pa.array(texts, pa.string()), "title", Text(**options))
    everything = np.ones(len(found.distinct), bool)
    listed: list[list[str]] = found.where(everything, 1000).to_pylist()
    return listed


def test_words_are_letters_and_digits_of_any_alphabet() -> None:
    assert lists(["Good, the Bad & the Ugly (1966)", "L'Été d'ÉTÉ", "東京 物語", "e\u0301te"]) == [
        ["good", "the", "bad", "ugly", "1966"],
        ["l", "été", "d"],
        ["東京", "物語"],
        ["éte"],
    ]
    assert lists(["\uff21\uff22\uff23 x_y"]) == [["abc", "x", "y"]]  # letters of full width
    assert lists([None, "", "?!", "one"]) == [[], [], [], ["one"]]
    assert lists([]) == []


def test_bigrams_are_of_one_text() -> None:
    assert lists(["a b a", "c", None, "b a"], bigrams=True) == [
        ["a", "b", "a b", "b a"],
        ["c"],
        [],
        ["b", "a", "b a"],
    ]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.none() | st.text(alphabet="aB é1-", max_size=12), max_size=6))
def test_against_a_loop(texts: list[str | None]) -> None:
    assert lists(texts) == [
        list(dict.fromkeys((text or "").lower().replace("-", " ").split())) for text in texts
    ]


def test_frequencies_and_what_is_kept() -> None:
    found = words(pa.array(["a b", "b c", "b", "a b d"]), "title", Text())
    distinct, items_with = found.distinct.to_pylist(), found.texts_with(np.ones(4, bool))
    counts = dict(zip(distinct, items_with.tolist(), strict=True))
    assert counts == {"a": 2, "b": 4, "c": 1, "d": 1}
    first_two = found.texts_with(np.array([True, True, False, False]))
    assert dict(zip(distinct, first_two.tolist(), strict=True)) == {"a": 1, "b": 2, "c": 1, "d": 0}
    assert Text(min_items=2, max_share=0.5).frequent(items_with, 4).tolist() == [
        counts[word] == 2 for word in distinct
    ]
    known = np.array([word in ("b", "d") for word in distinct])
    assert found.where(known, 9).to_pylist() == [["b"], ["b"], ["b"], ["b", "d"]]
    assert found.where(known, 1).to_pylist() == [["b"], ["b"], ["b"], ["b"]]


def test_idf() -> None:
    assert idf(np.array([0, 3, 9]), 9).tolist() == pytest.approx(
        [1 + np.log(10), 1 + np.log(10 / 4), 1.0]
    )


def test_mistakes() -> None:
    with pytest.raises(SchemaError, match=r"tokens\(year\) reads a text, but column 'year' is of"):
        words(pa.array([1995]), "year", Text())
    with pytest.raises(ValueError, match="max_share must be at most 1"):
        Text(max_share=1.5)
    assert lists([None]) == [[]]
    assert words(pa.nulls(2), "title", Text()).texts == 2
