"""ALS: matrix factorisation by alternating least squares (Spark MLlib), for implicit feedback.

Hu, Koren, Volinsky, "Collaborative filtering for implicit feedback datasets" (ICDM'08). Users and
items have vectors of size `rank`, and the score is their inner product. Training ignores the order
of events. Recent events have more weight only if the query's history is folded in with a `decay`
below 1.

Limits: the driver and every Python worker hold the item vectors in memory, 4 * rank bytes per item
(a worker needs about 200 MB more for a batch). User vectors stay on the executors, and on disk.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pyspark.ml import recommendation
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType

from sparkrec.baselines.als import _mllib as mllib
from sparkrec.bounds import Bounds, CountOrZero, Decay, Weight, check_bounds
from sparkrec.encoding.catalogue import Catalogue
from sparkrec.encoding.count_catalogue import count_catalogue
from sparkrec.errors import DataError
from sparkrec.io import storage
from sparkrec.io.tables import KEY_TYPES, NUMBER_TYPES, require_columns
from sparkrec.retrieval.answering.als import (
    ALSSearcher,
    als_searcher,
    read_item_vectors,
    write_item_vectors,
)
from sparkrec.retrieval.base import RetrievalModel, Retriever, require_history
from sparkrec.retrieval.params import ConfigParams
from sparkrec.retrieval.search.topk import Floats


@dataclass(frozen=True)
class ALSConfig:
    """The `model:` block of ALS.

    Attributes
    ----------
    rank
        Size of the vectors.
    reg_param
        Regularisation. MLlib multiplies it by the number of ratings of the user or item.
    alpha
        With `implicit_prefs`, a pair of user and item with the rating r has the confidence
        1 + alpha * r.
    max_iter
        Number of iterations, each over all items and then all users.
    implicit_prefs
        Whether a rating is the confidence that the user likes the item; pairs without a rating
        then count as no preference, with low confidence. false predicts the ratings themselves.
    nonnegative
        Whether the values of the vectors are constrained to be at least 0.
    rating_col
        Column of the rating; rows with a null are left out. If no column is named, each event is a
        rating of 1. With `implicit_prefs` a rating r below 0 is a dislike with the confidence
        1 + alpha * |r|.
    duplicates
        How several events of a user with the same item become one rating: `sum`, the sum of their
        ratings, or `once`, the largest. Use `once` if `implicit_prefs` is false.
    checkpoint_interval
        Number of iterations between checkpoints of the factors, which keep the lineage short;
        -1 makes no checkpoints.
    num_user_blocks
        Number of partitions of the user factors. The random initial vectors depend on it, so the
        default does not depend on the size of the cluster.
    num_item_blocks
        Number of partitions of the item factors, likewise.
    fold_in
        The user vector that answers a query: `factors`, the user's vector from training, and for a
        user who is not in train a vector computed from the history; or `history`, always a vector
        computed from the history.
    decay
        An event of the history with a later known events after it has the weight decay**a.
    max_history
        Number of the latest known events of the history that are used; 0 for all.
    """

    rank: Annotated[int, Bounds(1, 10_000)] = 64
    reg_param: Annotated[float, Bounds(0, 1_000_000, above=True)] = 0.1
    alpha: Weight = 1.0
    max_iter: Annotated[int, Bounds(1, 10_000)] = 10
    implicit_prefs: bool = True
    nonnegative: bool = False
    rating_col: str | None = None
    duplicates: Literal["sum", "once"] = "sum"
    checkpoint_interval: Annotated[int, Bounds(-1, 2**31 - 1)] = 10
    num_user_blocks: Annotated[int, Bounds(1, 100_000)] = 10
    num_item_blocks: Annotated[int, Bounds(1, 100_000)] = 10
    fold_in: Literal["factors", "history"] = "factors"
    decay: Decay = 1.0
    max_history: CountOrZero = 0

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.checkpoint_interval == 0:
            raise ValueError("checkpoint_interval must be at least 1, or -1 for never")
        for name, known in (("duplicates", ("sum", "once")), ("fold_in", ("factors", "history"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be {' or '.join(known)}")


class ALSModel(ConfigParams, RetrievalModel):
    """Item vectors, user vectors on the executors, and the settings to fold in a history.

    Attributes
    ----------
    item_vectors
        float32 [items, rank], in the catalogue's order; zeros for an item without a rating.
    user_vectors
        One row per user: `_sr_user`, the raw id, and `_sr_factor`, array<float> [rank]. Until the
        model is saved, they are stored on the executors (memory, then disk) and lost if an
        executor is lost.
    mean_rating
        Rating that is assumed for an event of a history: the mean rating of the events of train
        (with `implicit_prefs`, of those with a rating above 0).
    """

    config_blocks: ClassVar[dict[str, type[Any]]] = {"model": ALSConfig}
    searcher_class = ALSSearcher
    query_params = ("fold_in", "decay", "max_history")

    def __init__(
        self,
        catalogue: Catalogue,
        item_vectors: Floats,
        user_vectors: DataFrame,
        mean_rating: float,
    ) -> None:
        super().__init__()
        self.catalogue, self.item_vectors, self.user_vectors = catalogue, item_vectors, user_vectors
        self.mean_rating = mean_rating

    def searcher(self) -> ALSSearcher:
        params = {param.name: value for param, value in self.extractParamMap().items()}
        return als_searcher(self.catalogue, self.item_vectors, self.mean_rating, params)

    def prepare_queries(self, queries: DataFrame) -> DataFrame:
        """Add the users' vectors from training, if `fold_in` is `factors`."""
        require_history(queries, self.get("history_col"))
        if self.get("fold_in") == "history":
            return queries
        user = self.get("user_col")
        if user not in queries.columns:
            raise DataError(
                f"queries have no column `{user}` (they have {', '.join(queries.columns)}), which "
                "is needed to find the users' vectors; with fold_in: history it is not needed"
            )
        given, known = (
            frame.schema[name].dataType
            for frame, name in ((queries, user), (self.user_vectors, mllib.USER))
        )
        if isinstance(given, StringType) != isinstance(known, StringType):
            raise DataError(
                f"queries: column `{user}` is {given.simpleString()}, but in train it was "
                f"{known.simpleString()}"
            )
        same = F.col(user) == F.col(mllib.USER)
        return queries.join(self.user_vectors, same, "left").drop(mllib.USER)

    def write_parts(self, folder: str) -> dict[str, Any]:
        write_item_vectors(folder, self.catalogue, self.item_vectors)
        users = storage.join(folder, "users")
        self.user_vectors.write.parquet(storage.spark_path(users))
        # Spark's marker files and checksums are removed; the manifest lists the files of the model.
        for file in storage.list_files(users):
            if not file.name.endswith(".parquet"):
                storage.remove(storage.join(users, file.name))
        return {"mean_rating": self.mean_rating}

    @classmethod
    def read_parts(cls, folder: str, description: dict[str, Any]) -> "ALSModel":
        users = storage.spark_path(storage.join(folder, "users"))
        return cls(
            *read_item_vectors(folder),
            SparkSession.active().read.parquet(users),
            description["mean_rating"],
        )


class ALS(Retriever):
    """Factorises users and items with Spark MLlib's ALS.

    Parameters
    ----------
    config
        The `model:` block of a conf; by default the defaults of `ALSConfig`.
    work_path
        Folder for checkpoints that all workers can reach; the checkpoints are removed after the
        fit. By default a local temporary folder if Spark is local, otherwise the checkpoint
        directory of the Spark context, if it has one.
    params
        Params by name: those of every retriever, `seed`, and the fields of `ALSConfig`.

    Notes
    -----
    Raw ids of any type are numbered on Spark: items by their position in the catalogue, users
    within hash partitions, so that no task or machine holds all users. A partition can have
    2**31 / num_user_blocks users. MLlib gets the ratings sorted, in partitions that depend only on
    the data and `num_user_blocks`, so the same events and seed give the same vectors, whatever the
    order and the partitions of the events (on several machines, apart from rounding, which depends
    on the order in which MLlib sums).

    The events are shuffled once, and the vectors twice per iteration. The time of an iteration is
    in proportion to pairs * rank^2 + (users + items) * rank^3.
    """

    config_blocks: ClassVar[dict[str, type[Any]]] = {"model": ALSConfig}
    model_class = ALSModel

    seed = Param(Params._dummy(), "seed", "seed of the initial vectors", TypeConverters.toInt)

    def _fit(self, dataset: DataFrame) -> ALSModel:
        config, user, item = self.config, self.get("user_col"), self.get("item_col")
        once = config.duplicates == "once"
        rated = {} if config.rating_col is None else {config.rating_col: NUMBER_TYPES}
        require_columns(dataset, {user: KEY_TYPES, item: KEY_TYPES, **rated}, "train")
        catalogue = count_catalogue(dataset, item)
        pairs = mllib.pair_events(dataset, user, item, config.rating_col, once).persist()
        try:
            mean_rating = mllib.mean_rating(pairs, config.implicit_prefs)
            found = mllib.factorize(pairs, catalogue, self._mllib(config), self.work_path)
        finally:
            pairs.unpersist()
        return self._copyValues(ALSModel(catalogue, *found, mean_rating))

    def _mllib(self, config: ALSConfig) -> recommendation.ALS:
        return recommendation.ALS(
            rank=config.rank,
            maxIter=config.max_iter,
            regParam=config.reg_param,
            numUserBlocks=config.num_user_blocks,
            numItemBlocks=config.num_item_blocks,
            implicitPrefs=config.implicit_prefs,
            alpha=config.alpha,
            nonnegative=config.nonnegative,
            checkpointInterval=config.checkpoint_interval,
            seed=self.get("seed"),
        )
