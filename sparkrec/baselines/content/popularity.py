"""Content Popularity: items by the popularity that their content suggests, the same for everyone.

A ridge regression of log(1 + events) on the values of the declared features, fitted to the items of
train (Hoerl and Kennard, "Ridge Regression", Technometrics 1970). Popular genres, brands and names
are alike in new items, so it finds several times more than chance without knowing the user. On
items nobody has seen, a model has learned something of the user only if it is better than this.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame
from scipy import sparse

from sparkrec.baselines.content.base import ContentRetriever
from sparkrec.encoding.item_features import ItemFeatures
from sparkrec.io import storage
from sparkrec.io.arrow import read_parquet, write_parquet
from sparkrec.retrieval.answering.content import (
    feature_matrix,
    read_features,
    write_features,
)
from sparkrec.retrieval.answering.rankings import Ranking, RankingSearcher, SegmentRankings
from sparkrec.retrieval.base import RetrievalModel
from sparkrec.retrieval.catalogue_changes import kept_items, read_new_items

Doubles = npt.NDArray[np.float64]

_COEFFICIENTS = "coefficients.parquet"
# The strength of the penalty is the one of these with the smallest error in cross-validation.
_PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_FOLDS = 5


def fit_ridge(features: sparse.csr_array, target: Doubles) -> tuple[Doubles, float]:
    """Regress a target [rows] on features [rows, columns]; returns coefficients and the intercept.

    The intercept is not penalised. The penalty is chosen by cross-validation in five folds.

    Notes
    -----
    Solved by LSQR, so the cost is in proportion to the number of entries: some seconds for a
    hundred thousand items.
    """
    fold = np.arange(len(target)) % _FOLDS

    def error(penalty: float) -> float:
        total = 0.0
        for held_out in range(min(_FOLDS, len(target))):
            rest = fold != held_out
            if rest.any():
                weights, mean = _solve(features[rest], target[rest], penalty)
                wrong = features[~rest] @ weights + mean - target[~rest]
                total += float(wrong @ wrong)
        return total

    return _solve(features, target, min(_PENALTIES, key=error))


def _solve(features: sparse.csr_array, target: Doubles, penalty: float) -> tuple[Doubles, float]:
    """Ridge regression with centred columns, which are never formed."""
    means = np.asarray(features.mean(axis=0)).ravel()
    rows, columns = features.shape
    centred = sparse.linalg.LinearOperator(
        (rows, columns),
        matvec=lambda x: features @ x.ravel() - means @ x.ravel(),
        rmatvec=lambda y: features.T @ y.ravel() - means * y.sum(),
        dtype=np.float64,
    )
    mean = float(target.mean())
    weights = sparse.linalg.lsqr(
        centred, target - mean, damp=penalty**0.5, atol=1e-8, btol=1e-8, iter_lim=200
    )[0]
    return weights, mean - float(means @ weights)


class ContentPopularityModel(RetrievalModel):
    """Ranks all items by the popularity that their content suggests; ties by item id.

    The score is the expected log(1 + events). Every query gets the same list.

    Attributes
    ----------
    rankings
        The catalogue and its ranking.
    features, coefficients, intercept
        The regression: encoder of the features, and coefficients of `feature_matrix`'s columns.
    """

    searcher_class = RankingSearcher

    def __init__(
        self,
        rankings: SegmentRankings,
        features: ItemFeatures,
        coefficients: Doubles,
        intercept: float,
    ) -> None:
        super().__init__()
        self.catalogue, self.rankings = rankings.catalogue, rankings
        self.features, self.coefficients, self.intercept = features, coefficients, intercept

    def scores(self, items: pa.Table) -> Doubles:
        """The expected log(1 + events) of items, one row each with the declared columns."""
        return feature_matrix(self.features, items) @ self.coefficients + self.intercept

    def searcher(self) -> RankingSearcher:
        return RankingSearcher(self.rankings)

    def add_items(self, items: DataFrame, score: float = 0.0) -> "ContentPopularityModel":
        item = self.get("item_col")
        new = read_new_items(items, item, self.catalogue, self.features.declared)
        catalogue = self.catalogue.with_new(
            new.column(item).combine_chunks().cast(self.catalogue.ids.type)
        )
        known = np.empty(len(self.catalogue))
        known[self.rankings.overall.items] = self.rankings.overall.scores
        scores = np.concatenate([known, self.scores(new) + score])
        return self._with(SegmentRankings(catalogue, Ranking.of(scores, catalogue.order)))

    def remove_items(self, ids: Sequence[Any]) -> "ContentPopularityModel":
        kept = kept_items(ids, self.catalogue)
        scores = np.empty(len(self.catalogue))
        scores[self.rankings.overall.items] = self.rankings.overall.scores
        catalogue = self.catalogue.where(kept)
        return self._with(SegmentRankings(catalogue, Ranking.of(scores[kept], catalogue.order)))

    def _with(self, rankings: SegmentRankings) -> "ContentPopularityModel":
        parts = self.features, self.coefficients, self.intercept
        return self._like_me(ContentPopularityModel(rankings, *parts))

    def write_parts(self, folder: str) -> dict[str, Any]:
        self.rankings.write(folder)
        table = pa.table({"coefficient": self.coefficients})
        write_parquet(storage.join(folder, _COEFFICIENTS), table)
        own = {"segmented": False, "intercept": self.intercept}
        return {**write_features(folder, self.features), **own}

    @classmethod
    def read_parts(cls, folder: str, description: dict[str, Any]) -> "ContentPopularityModel":
        coefficients = read_parquet(storage.join(folder, _COEFFICIENTS)).column("coefficient")
        return cls(
            SegmentRankings.read(folder, False),
            read_features(folder, description),
            coefficients.to_numpy(),
            float(description["intercept"]),
        )


class ContentPopularity(ContentRetriever):
    """Regresses popularity on content; see `ContentRetriever` for what it takes."""

    model_class = ContentPopularityModel

    def _fit(self, dataset: DataFrame) -> ContentPopularityModel:
        catalogue, features, table = self._fit_features(dataset)
        matrix = sparse.csr_array(feature_matrix(features, table), dtype=np.float64)
        coefficients, intercept = fit_ridge(matrix, np.log1p(catalogue.counts))
        scores = matrix @ coefficients + intercept
        rankings = SegmentRankings(catalogue, Ranking.of(scores, catalogue.order))
        model = ContentPopularityModel(rankings, features, coefficients, intercept)
        return self._copyValues(model)
