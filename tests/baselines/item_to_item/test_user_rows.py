"""Rows of users from columns of events, against plain Python."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkrec.baselines.item_to_item._user_rows import UserRows, _packed, user_rows

ITEMS = 12
# (user, item, timestamp, position)
EVENTS = st.lists(
    st.tuples(
        st.integers(-3, 3), st.integers(0, ITEMS - 1), st.integers(0, 3), st.integers(0, 1000)
    ),
    max_size=40,
    unique_by=lambda event: event[3],
)


def made(events: list[tuple[int, int, int, int]], text: bool = False, **how: object) -> UserRows:
    users = [f"ü{user + 5}" if text else user for user, *_ in events]
    items = np.array([item for _, item, *_ in events], np.int32)
    if how.get("how") != "sampled":
        how["timestamps"] = np.array([event[2] for event in events], np.int64)
        how["positions"] = np.array([event[3] for event in events], np.int64)
    column = pa.chunked_array([pa.array(users, pa.string() if text else pa.int64())])
    return user_rows(column, items, ITEMS, **how)  # type: ignore[arg-type]


def as_lists(rows: UserRows) -> list[list[int]]:
    return [rows.slice(user, user + 1).items.tolist() for user in range(len(rows))]


def expected(events: list[tuple[int, int, int, int]], max_items: int | None) -> list[list[int]]:
    """Of every user, in the order of their ids, the items by their last time."""
    rows: dict[int, list[int]] = {}
    for user, item, _, _ in sorted(events, key=lambda event: event[2:]):
        row = rows.setdefault(user, [])
        if item in row:
            row.remove(item)
        row.append(item)
    return [rows[user][-(max_items or ITEMS) :] for user in sorted(rows)]


@given(EVENTS, st.sampled_from([None, 1, 3]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_rows_are_in_the_order_of_consumption_without_repeats_and_capped(
    events: list[tuple[int, int, int, int]], max_items: int | None, text: bool
) -> None:
    rows = made(events, text, max_items=max_items)
    assert as_lists(rows) == expected(events, max_items)


@given(EVENTS, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_a_sample_depends_on_the_seed_the_user_and_the_item_alone(
    events: list[tuple[int, int, int, int]], random: object
) -> None:
    sampled = {"how": "sampled", "max_items": 2, "seed": 7}
    whole = made(events, **sampled)
    users = sorted({user for user, *_ in events})
    for user, row in zip(users, as_lists(whole), strict=True):
        had = sorted({item for who, item, *_ in events if who == user})
        assert row == sorted(row)
        assert set(row) <= set(had)
        assert len(row) == min(2, len(had))
        alone = [event for event in events if event[0] == user]
        random.shuffle(alone)  # type: ignore[attr-defined]
        assert as_lists(made(alone, **sampled)) == [row]


def test_other_seeds_give_other_samples_and_all_items_their_chance() -> None:
    events = [(1, item, 0, item) for item in range(ITEMS)]
    drawn = [
        tuple(as_lists(made(events, how="sampled", max_items=3, seed=seed))[0])
        for seed in range(200)
    ]
    share = np.bincount(np.ravel(drawn), minlength=ITEMS) / 200
    assert share == pytest.approx(3 / ITEMS, abs=0.12)
    assert len(set(drawn)) > 100


def test_users_with_the_same_items_get_different_samples() -> None:
    events = [
        (user, item, 0, user * ITEMS + item) for user in range(-3, 3) for item in range(ITEMS)
    ]
    rows = as_lists(made(events, how="sampled", max_items=4))
    assert len({tuple(row) for row in rows}) > 3


def test_without_timestamps_ties_are_broken_by_the_item() -> None:
    users = pa.chunked_array([pa.array([1, 1, 1])])
    items = np.array([5, 2, 9], np.int32)
    same_time = np.zeros(3, np.int64)
    assert as_lists(user_rows(users, items, ITEMS, same_time)) == [[2, 5, 9]]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5),
            st.sampled_from([0, 1, 2**40, -(2**62), 2**62]),
            st.integers(-(2**63), 2**63 - 1),
        ),
        max_size=20,
    ),
    st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_packed_keys_sort_as_the_keys_do(rows: list[tuple[int, int, int]], real: bool) -> None:
    keys = [np.array([row[i] for row in rows], np.int64) for i in range(3)]
    if real:
        keys.insert(1, np.array([row[0] / 7 for row in rows]))
    wanted = np.lexsort(keys) if rows else np.empty(0, np.int64)
    assert np.lexsort(_packed(list(keys))).tolist() == wanted.tolist()


def test_narrow_keys_share_a_column() -> None:
    narrow, wide = np.array([3, 1, 2]), np.array([0, 2**40, 5])
    assert len(_packed([narrow, narrow.astype(np.int32), wide])) == 1
    assert len(_packed([wide, wide])) == 2


def test_no_events_make_no_rows() -> None:
    rows = made([])
    assert len(rows) == 0
    assert as_lists(UserRows.from_bytes(rows.to_bytes())) == []


@pytest.mark.parametrize("largest", [7, 2**16 - 1, 2**16, 2**31 - 1])
def test_rows_survive_the_wire(largest: int) -> None:
    rows = UserRows(np.array([0, 2, 2, 3]), np.array([largest, 0, 5], np.int32))
    again = UserRows.from_bytes(rows.to_bytes())
    assert as_lists(again) == [[largest, 0], [], [5]]
    assert (again.indptr.dtype, again.items.dtype) == (np.int64, np.int32)


@pytest.mark.parametrize("largest", [7, 2**16])
def test_weights_survive_the_wire_and_go_with_their_items(largest: int) -> None:
    items, weights = np.array([largest, 0, 5], np.int32), np.array([0.5, 1e9, 3.0])
    rows = UserRows(np.array([0, 2, 2, 3]), items, weights)
    again = UserRows.from_bytes(rows.to_bytes())
    assert as_lists(again) == [[largest, 0], [], [5]]
    assert again.weights.tolist() == [0.5, 1e9, 3.0]
    assert rows.take(np.array([2, 0])).weights.tolist() == [3.0, 0.5, 1e9]
    joined = UserRows.concatenate([rows.slice(2, 3), rows.slice(0, 2)])
    assert joined.weights.tolist() == [3.0, 0.5, 1e9]


def test_small_numbers_travel_at_two_bytes_an_item() -> None:
    items = np.zeros(1000, np.int32)
    small = len(UserRows(np.array([0, 1000]), items).to_bytes())
    large = len(UserRows(np.array([0, 1000]), items + 2**16).to_bytes())
    assert (small, large) == (16 + 4 + 2000, 16 + 4 + 4000)


def test_taking_and_joining_rows() -> None:
    rows = UserRows(np.array([0, 2, 2, 5]), np.array([4, 3, 9, 8, 7], np.int32))
    assert as_lists(rows.take(np.array([2, 0]))) == [[9, 8, 7], [4, 3]]
    joined = UserRows.concatenate([rows.slice(2, 3), rows.slice(0, 2), rows.slice(0, 0)])
    assert as_lists(joined) == [[9, 8, 7], [4, 3], []]
    assert joined.lengths.tolist() == [3, 2, 0]
    assert len(UserRows.concatenate([])) == 0
