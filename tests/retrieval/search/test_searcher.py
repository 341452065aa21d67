"""What a batch's history is looked up for, and how often."""

import pickle

import numpy as np
import pyarrow as pa
import pytest

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.retrieval.answering.als import als_searcher
from sparkrec.retrieval.answering.neighbours import NeighbourSearcher, age_weights
from sparkrec.retrieval.answering.personal_top import PersonalTopSearcher
from sparkrec.retrieval.search.searcher import Searcher, SearchOptions, search_batch

CATALOGUE = Catalogue(pa.array(["a", "b", "c", "d"]), np.array([4, 3, 2, 1]))
ALS = {
    "reg_param": 0.1,
    "alpha": 1.0,
    "implicit_prefs": True,
    "nonnegative": False,
    "decay": 1.0,
    "max_history": 0,
    "duplicates": "sum",
    "history_col": "history",
}


def searchers() -> dict[str, Searcher]:
    table = np.array([[1], [2], [3], [0]], np.int32), np.full((4, 1), 0.5)
    return {
        "neighbours": NeighbourSearcher(CATALOGUE, *table, "history", age_weights("last", 1, 1)),
        "als": als_searcher(CATALOGUE, np.eye(4, 3, dtype=np.float32) + 0.1, 1.0, ALS),
        "personal top": PersonalTopSearcher(CATALOGUE, "history"),
    }


@pytest.mark.parametrize("kind", searchers())
def test_the_history_of_a_batch_is_looked_up_once(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    searcher, lookups = searchers()[kind], []
    look_up = Catalogue.index
    monkeypatch.setattr(
        Catalogue, "index", lambda self, ids: lookups.append(len(ids)) or look_up(self, ids)
    )
    one = pa.record_batch({"history": [["a"], ["b", "c", "?"], []]})
    other = pa.record_batch({"history": [["d"], [], ["c", "a"]]})
    answers = [search_batch(searcher, batch, SearchOptions(k=4), None) for batch in (one, other)]
    assert lookups == [4, 3]
    # A fresh searcher, which has seen no other batch, says the same.
    for batch, found in zip((one, other), answers, strict=True):
        assert search_batch(searchers()[kind], batch, SearchOptions(k=4), None).equals(found)
    assert answers[0] != answers[1]


def test_a_searcher_travels_without_the_batch_that_it_saw() -> None:
    searcher = searchers()["neighbours"]
    fresh = len(pickle.dumps(searcher))
    batch = pa.record_batch({"history": [["a"] * 5000]})
    search_batch(searcher, batch, SearchOptions(), None)
    assert len(pickle.dumps(searcher)) == fresh
