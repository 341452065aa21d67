"""User vectors from histories: the least-squares problem that ALS solves for each user.

With item vectors Y [items, rank] fixed, ALS gives a user with the ratings r_i the vector x with
A x = b (Hu, Koren, Volinsky, "Collaborative filtering for implicit feedback datasets", ICDM'08,
equation 4; regularisation by the number of ratings n as in Zhou et al., "Large-scale parallel
collaborative filtering for the Netflix prize", AAIM'08; both as in Spark MLlib):

=========  ============================================  ==============================
implicit   A = Y'Y + sum_i alpha r_i y_i y_i' + reg n I  b = sum_i (1 + alpha r_i) y_i
explicit   A = sum_i y_i y_i' + reg n I                  b = sum_i r_i y_i
=========  ============================================  ==============================

where n counts the ratings, and r_i > 0 if implicit. An event of weight w < 1 is taken for a share
w of an event, and for nothing in the rest: its rating is w r, the 1 of its term in b (where
explicit, of its term in A) is w, and so is what it adds to n. Weights of 1 give MLlib's vectors.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from sparkrec.retrieval.search.topk import Floats, Ints

Doubles = npt.NDArray[np.floating[Any]]

_CHUNK_BYTES = 1 << 25


@dataclass(frozen=True)
class Objective:
    """What ALS minimises; see the estimator's params of these names."""

    reg_param: float
    alpha: float
    implicit_prefs: bool
    nonnegative: bool


@dataclass(frozen=True, eq=False)
class Ratings:
    """Weighted ratings of some users, each (row, item) once, rows ascending.

    Attributes
    ----------
    rows, items
        [ratings]: number of the user from 0, number of the item.
    weights
        [ratings]: the share of an event that each counts as, above 0 and at most 1.
    values
        [ratings]: the ratings, each already times its weight; above 0 if implicit.
    """

    rows: Ints
    items: Ints
    weights: Doubles
    values: Doubles


class FoldIn:
    """Solves the users' equations for fixed item vectors."""

    def __init__(self, item_vectors: Floats, objective: Objective) -> None:
        self.item_vectors, self.objective = item_vectors, objective
        rank = item_vectors.shape[1]
        self._gram = np.zeros((rank, rank))
        if objective.implicit_prefs:
            wide = item_vectors.astype(np.float64)
            self._gram = wide.T @ wide

    def solve(self, ratings: Ratings, users: int) -> Floats:
        """Vectors of users 0, 1, ..., float32 [users, rank]; zeros for one without ratings.

        Notes
        -----
        In double precision, as MLlib does. Time is about ratings * rank^2 + users * rank^3; the
        matrices of as many users are held at once as fit in 32 MB.
        """
        rank = self.item_vectors.shape[1]
        found = np.zeros((users, rank), np.float32)
        present, starts = np.unique(ratings.rows, return_index=True)
        ends = np.append(starts[1:], len(ratings.rows))
        chunk = max(1, _CHUNK_BYTES // (8 * rank * rank))
        for start in range(0, len(present), chunk):
            chosen = slice(start, start + chunk)
            found[present[chosen]] = self._solve_chunk(ratings, starts[chosen], ends[chosen])
        return found

    def _solve_chunk(self, ratings: Ratings, starts: Ints, ends: Ints) -> Doubles:
        alpha, rank = self.objective.alpha, self.item_vectors.shape[1]
        left = np.empty((len(starts), rank, rank))
        right = np.empty((len(starts), rank))
        for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
            vectors = self.item_vectors[ratings.items[start:end]].astype(np.float64)
            weights, values = ratings.weights[start:end], ratings.values[start:end]
            if self.objective.implicit_prefs:
                squares, targets = alpha * values, weights + alpha * values
            else:
                squares, targets = weights, values
            left[row] = self._gram + (vectors * squares[:, None]).T @ vectors
            left[row].flat[:: rank + 1] += self.objective.reg_param * weights.sum()
            right[row] = targets @ vectors
        if self.objective.nonnegative:
            return np.stack([_nonnegative(a, b) for a, b in zip(left, right, strict=True)])
        return np.linalg.solve(left, right[:, :, None])[:, :, 0]


def _nonnegative(left: Doubles, right: Doubles) -> Doubles:
    """The x >= 0 with the least x'Ax / 2 - b'x: with A = L L', that of |L'x - L^-1 b|^2."""
    lower = np.linalg.cholesky(left)
    return np.asarray(nnls(lower.T, np.linalg.solve(lower, right))[0])


@dataclass(frozen=True)
class Weighting:
    """How the events of a history become ratings.

    Attributes
    ----------
    decay
        An event with a later events of its user has the weight decay**a.
    max_history
        Latest events of a user that count; 0 for all.
    rating
        Of each event.
    once
        Several events of a user and an item count as the last of them alone. Otherwise their
        ratings are summed, and the pair has the weight of the last.
    """

    decay: float
    max_history: int
    rating: float
    once: bool

    def ratings(self, rows: Ints, items: Ints) -> Ratings:
        """Ratings from events: number of the user, ascending, and of the item, oldest first."""
        if self.once:
            kept = np.sort(_last_of_each(rows, items)[0])
            rows, items = rows[kept], items[kept]
        ages = np.searchsorted(rows, rows, side="right") - 1 - np.arange(len(rows))
        # For old events decay**age underflows to 0.
        weights = np.float64(self.decay) ** ages
        counted = weights > 0
        if self.max_history:
            counted &= ages < self.max_history
        rows, items, weights = rows[counted], items[counted], weights[counted]
        last, pair = _last_of_each(rows, items)
        values = self.rating * np.bincount(pair, weights, len(last))
        return Ratings(rows[last], items[last], weights[last], values)


def _last_of_each(rows: Ints, items: Ints) -> tuple[Ints, Ints]:
    """Index of the last event of each (row, item), by row, and the group of each event."""
    keys = (rows * (items.max(initial=0) + 1) + items)[::-1]
    _, first, pair = np.unique(keys, return_index=True, return_inverse=True)
    return len(keys) - 1 - first, pair[::-1]
