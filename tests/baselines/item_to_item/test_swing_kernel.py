"""The Swing kernel without Spark: against a brute force, its tiles, and its samples."""

from itertools import chain, combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkrec.baselines.item_to_item import _swing_kernel
from sparkrec.baselines.item_to_item._swing_kernel import UserPairs
from sparkrec.baselines.item_to_item._swing_users import Sample, sample_users
from sparkrec.baselines.item_to_item._user_rows import UserRows

ITEMS = 9

Users = list[list[int]]
Pairs = dict[tuple[int, int], float]

users_of_items = st.lists(
    st.lists(st.integers(0, ITEMS - 1), min_size=1, max_size=ITEMS, unique=True), max_size=12
)


def rows_of(users: Users) -> UserRows:
    lengths = np.array([0, *[len(items) for items in users]], np.int64)
    return UserRows(np.cumsum(lengths), np.array(list(chain.from_iterable(users)), np.int32))


def kernel(items: int = ITEMS, **params: float) -> UserPairs:
    settings = {
        "alpha": 1.0,
        "smoothing": 0.0,
        "exponent": 0.5,
        "max_users_per_item": 1000,
        "num_neighbours": items,
        "seed": 0,
        "chunk_items": 10**6,
    }
    return UserPairs(**{**settings, "rank": np.arange(items, dtype=np.int32), **params})  # type: ignore[arg-type]


def brute_force(users: Users, alpha: float, smoothing: float, exponent: float) -> Pairs:
    """(i, j) with j < i: the formula, pair of users by pair of users."""
    sums: Pairs = {}
    for one, other in combinations(users, 2):
        shared = set(one) & set(other)
        weight = ((len(one) + smoothing) * (len(other) + smoothing)) ** -exponent
        for j, i in combinations(sorted(shared), 2):
            sums[i, j] = sums.get((i, j), 0.0) + weight / (alpha + len(shared))
    return sums


def solved(pairs: UserPairs, own: list[int], chunks: list[UserRows]) -> Pairs:
    """(item, neighbour): score, as the kernel gives them, in the lists of either."""
    found: Pairs = {}
    for items, neighbours, scores in pairs.neighbours(np.array(own, np.int32), iter(chunks)):
        for item, others, values in zip(items, neighbours, scores, strict=True):
            given = others >= 0
            assert list(values[given]) == sorted(values[given], reverse=True)
            for other, value in zip(others[given], values[given], strict=True):
                assert (item, other) not in found
                found[int(item), int(other)] = float(value)
    return found


def both_ways(sums: Pairs) -> Pairs:
    return sums | {(j, i): value for (i, j), value in sums.items()}


@settings(max_examples=150, deadline=None)
@given(
    users_of_items,
    st.sampled_from([(1.0, 0.0, 0.5), (0.0, 5.0, 0.35), (12.5, 0.0, 0.0), (3.0, 2.0, -0.35)]),
    st.integers(1, 4),
)
def test_scores_equal_the_brute_force(
    users: Users, formula: tuple[float, float, float], blocks: int
) -> None:
    alpha, smoothing, exponent = formula
    pairs = kernel(alpha=alpha, smoothing=smoothing, exponent=exponent)
    found: Pairs = {}
    for block in range(blocks):
        mine = list(range(block, ITEMS, blocks))
        part = solved(pairs, mine, [rows_of(users)])
        assert not found.keys() & part.keys()
        found |= part
    expected = both_ways(brute_force(users, *formula))
    assert found.keys() == expected.keys()
    for pair, value in expected.items():
        assert found[pair] == pytest.approx(value, rel=1e-9, abs=1e-12)


def test_a_score_by_hand() -> None:
    """Users {0, 1}, {0, 1, 2} and {0, 2}; weights 1/sqrt of 2, 3 and 2; alpha 1."""
    found = solved(kernel(3), [0, 1, 2], [rows_of([[1, 0], [2, 0, 1], [0, 2]])])
    one_pair = 1 / np.sqrt(6) / (1 + 2)
    assert found == pytest.approx(both_ways({(1, 0): one_pair, (2, 0): one_pair}))


def test_only_the_best_neighbours_are_kept_ties_by_popularity() -> None:
    """Item 3 goes with 2 twice (two pairs more), with 0 and 1 alike."""
    users = [[0, 1, 3], [0, 1, 3], [2, 3], [2, 3], [2, 3]]
    found = solved(kernel(4, num_neighbours=2), [0, 1, 2, 3], [rows_of(users)])
    assert [j for i, j in found if i == 3] == [2, 0]
    assert [j for i, j in found if i == 2] == [3]


def random_users(seed: int, users: int, items: int) -> Users:
    random = np.random.default_rng(seed)
    share = 1.0 / np.arange(2, items + 2)
    return [
        [int(i) for i in random.choice(items, size, replace=False, p=share / share.sum())]
        for size in random.integers(1, items // 2, users)
    ]


@pytest.mark.parametrize("sum_bytes", [8 * 150, 8 * 150 * 70, 2**26])
def test_the_width_of_a_tile_changes_not_one_bit(
    monkeypatch: pytest.MonkeyPatch, sum_bytes: int
) -> None:
    """One item at a time, more than a word of them, all that overlap."""
    rows = rows_of(random_users(1, 60, 150))
    plain = solved(kernel(150), list(range(150)), [rows])
    monkeypatch.setattr(_swing_kernel, "_SUM_BYTES", sum_bytes)
    assert solved(kernel(150), list(range(150)), [rows]) == plain
    assert len(plain) > 5000


@pytest.mark.parametrize("most", [1000, 4])
def test_the_order_and_the_chunks_of_the_users_change_not_one_bit(most: int) -> None:
    users = random_users(2, 80, 20)
    users += users[:30] + [[0, 1]] * 25
    pairs = kernel(20, max_users_per_item=most, seed=7)
    plain = solved(pairs, list(range(20)), [rows_of(users)])
    turned = [list(reversed(items)) for items in reversed(users)]
    chunks = [rows_of(turned[start : start + 9]) for start in range(0, len(turned), 9)]
    assert solved(pairs, list(range(20)), chunks) == plain


# ------------------------------------------------------------------------------------ samples


def draw(users: Users, most: int, seed: int, own: tuple[int, ...] = (0,)) -> Sample:
    return sample_users([rows_of(users)], np.array(own, np.int32), ITEMS, most, seed)


def test_an_item_below_the_limit_keeps_all_users_with_more_than_one_item() -> None:
    sample = draw([[0, 1], [0], [1, 2], [0, 1, 2]], 2, 0)
    assert [len(users) for users in sample.members] == [2]
    assert list(sample.rows.lengths[sample.members[0]]) == [3, 2]
    assert list(sample.scale) == [1.0]


def test_an_item_above_the_limit_is_scaled_to_all_pairs() -> None:
    sample = draw([[0, 1]] * 10, 4, 0)
    assert len(sample.members[0]) == 4
    assert sample.scale[0] == pytest.approx(10 * 9 / (4 * 3))


def test_every_user_is_drawn_as_often_and_items_draw_apart() -> None:
    """Each user is one of its own here: items 0 and 1, and a tag that tells it from others."""
    users = [[0, 1, *tag] for size in range(4) for tag in combinations(range(2, ITEMS), size)]
    drawn = np.zeros(len(users))
    same = 0
    for seed in range(200):
        sample = draw(users, 16, seed, own=(0, 1))
        tags = [frozenset(sample.rows.slice(u, u + 1).items.tolist()) for u in sample.members[0]]
        drawn += [frozenset(items) in tags for items in users]
        same += len(set(sample.members[0]) & set(sample.members[1]))
    share = 16 / len(users)
    spread = np.sqrt(200 * share * (1 - share))
    assert np.abs(drawn - 200 * share).max() < 5 * spread
    assert same / 200 == pytest.approx(16 * share, rel=0.15)


def test_of_users_with_the_same_items_some_are_drawn_and_some_are_not() -> None:
    users = [[0, 1]] * 50 + [[0, 2]] * 50
    for seed in range(20):
        sample = draw(users, 40, seed)
        alike = sum(1 in sample.rows.slice(u, u + 1).items for u in sample.members[0])
        assert 5 < alike < 35


def test_a_sampled_score_is_right_on_average() -> None:
    """Both items have 40 users; samples of 10 come within some per cent in the mean."""
    users = [[0, 1, 2 + user % 7] for user in range(40)]
    exact = brute_force(users, 1.0, 0.0, 0.5)[1, 0]
    estimates = [
        solved(kernel(max_users_per_item=10, seed=seed), [1], [rows_of(users)])[1, 0]
        for seed in range(200)
    ]
    assert np.mean(estimates) == pytest.approx(exact, rel=0.02)
    assert np.std(estimates) > 0


def test_rows_that_no_item_needs_are_dropped_between_chunks() -> None:
    """40 chunks of 50 users; what is held never exceeds a chunk and the drawn users."""
    held: list[int] = []
    chunks = [rows_of([[0, 1 + (user + chunk) % 8] for user in range(50)]) for chunk in range(40)]
    take = UserRows.concatenate

    def watched(parts: list[UserRows]) -> UserRows:
        whole = take(parts)
        held.append(len(whole))
        return whole

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UserRows, "concatenate", staticmethod(watched))
        sample = sample_users(chunks, np.array([0], np.int32), ITEMS, 30, 3)
    assert len(held) == 40
    assert max(held) == 50 + 30
    assert len(sample.members[0]) == 30
    assert sample.scale[0] == pytest.approx(2000 * 1999 / (30 * 29))
