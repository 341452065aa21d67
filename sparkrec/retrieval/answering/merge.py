"""Merging the neighbours of histories, in compiled loops.

A query costs one addition for each neighbour of each item of its history, whatever the size of the
catalogue.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sparkrec.compiled import compiled
from sparkrec.retrieval.search.heap import push, sort
from sparkrec.retrieval.search.topk import Floats, Ints

Numbers = npt.NDArray[np.int32]
Doubles = npt.NDArray[np.float64]


class Table(NamedTuple):
    """Neighbours of every item, [items, K].

    Attributes
    ----------
    neighbours, scores
        Item numbers, -1 for none, and their similarities.
    order, by_order
        [items]: rank of each item, by which ties are broken, and the items by their rank.
    """

    neighbours: Numbers
    scores: npt.NDArray[Any]
    order: Numbers
    by_order: Numbers


class Ragged(NamedTuple):
    """Items of each query: those of query q are `items[starts[q]:starts[q + 1]]`."""

    starts: Ints
    items: Ints


class Filler(NamedTuple):
    """Items that fill lists with too few neighbours, best first, and their scores."""

    items: Numbers
    scores: Floats


@compiled
def merge(
    table: Table,
    histories: Ragged,
    weights: Doubles,
    seen: Ragged,
    allowed: npt.NDArray[np.bool_],
    filler: Filler,
    sums: Doubles,
    k: int,
) -> tuple[Floats, Ints]:
    """The k best items of every query, [queries, k]; -inf and -1 where nothing is left.

    Parameters
    ----------
    histories
        Oldest item first.
    weights
        [ages]: the weight of an item by its age, the last item's first; older ones do not count.
    seen
        Items that must not be given to a query.
    allowed
        [items]: only these neighbours are given; all if it is empty.
    filler
        Only items that are allowed.
    sums
        Space of the catalogue's size, all 0; it is so again afterwards.

    Notes
    -----
    An item of the history that stands there twice adds its neighbours once, with the sum of its
    weights. Items add theirs in ascending order, so a score does not depend on the batch.
    """
    queries = len(histories.starts) - 1
    scores = np.full((queries, k), -np.inf, np.float32)
    found = np.full((queries, k), -1, np.int64)
    touched = np.empty(_most_touched(table, histories, len(weights), seen), np.int32)
    ranks = np.empty(k, np.int32)
    best = np.empty(k, np.float64)
    for query in range(queries):
        stop = histories.starts[query + 1]
        start = max(histories.starts[query], stop - len(weights))
        size = _add_up(table, histories.items[start:stop], weights, sums, touched)
        # From here on, -inf marks items that are excluded or already in the list.
        for item in seen.items[seen.starts[query] : seen.starts[query + 1]]:
            if sums[item] == 0:
                touched[size] = item
                size += 1
            sums[item] = -np.inf
        given = 0
        for item in touched[:size]:
            score = np.float32(sums[item])
            good = score > 0 and (given < k or score >= best[0])
            if good and (len(allowed) == 0 or allowed[item]):
                given = push(ranks, best, given, table.order[item], float(score))
                sums[item] = -np.inf
        sort(ranks, best, given)
        for place in range(given):
            found[query, place] = table.by_order[ranks[place]]
            scores[query, place] = best[place]
        for i in range(len(filler.items)):
            if given == k:
                break
            if sums[filler.items[i]] != -np.inf:
                found[query, given] = filler.items[i]
                scores[query, given] = filler.scores[i]
                given += 1
        for item in touched[:size]:
            sums[item] = 0
    return scores, found


@compiled
def _most_touched(table: Table, histories: Ragged, ages: int, seen: Ragged) -> int:
    """The length of `touched`: neighbours of the longest history, and what its query has seen."""
    most = 0
    for query in range(len(histories.starts) - 1):
        asked = min(histories.starts[query + 1] - histories.starts[query], ages)
        left_out = seen.starts[query + 1] - seen.starts[query]
        most = max(most, asked * table.neighbours.shape[1] + left_out)
    return most


@compiled
def _add_up(table: Table, history: Ints, weights: Doubles, sums: Doubles, touched: Numbers) -> int:
    """Add the scores of a history's neighbours to `sums`; returns the length of the list `touched`.

    An item is listed again if its sum comes back to 0.
    """
    by_item = np.argsort(history, kind="mergesort")
    size, place = 0, 0
    while place < len(history):
        item = history[by_item[place]]
        weight = 0.0
        while place < len(history) and history[by_item[place]] == item:
            weight += weights[len(history) - 1 - by_item[place]]
            place += 1
        neighbours, scores = table.neighbours[item], table.scores[item]
        for column in range(len(neighbours)):
            other = neighbours[column]
            if other >= 0:
                # Without a branch, since the CPU cannot predict which items are new.
                before = sums[other]
                touched[size] = other
                size += before == 0
                sums[other] = before + weight * scores[column]
    return size
