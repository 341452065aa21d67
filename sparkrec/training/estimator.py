"""The pyspark.ml Estimator of two-tower models; `training.retrievers` has one class per model.

``DSSM(config, items=items).fit(train).transform(queries)`` does in a notebook what a job does:
encode on Spark, feed through petastorm, train in the driver or on executors, index the items.
"""

import dataclasses
import logging
import tempfile
from collections.abc import Mapping
from time import perf_counter
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pyspark import StorageLevel
from pyspark.ml.param import Param, Params
from pyspark.sql import DataFrame
from torch import Tensor

from sparkrec.config import load as configs
from sparkrec.encoding.catalogue import Catalogue
from sparkrec.encoding.encode import LABEL, NEGATIVES, Encoded, encode_rows
from sparkrec.encoding.fit_sides import SideSettings, fit_sides, plain_schema
from sparkrec.encoding.queries import (
    FromHistory,
    join_users,
    query_features,
    validation_arrays,
)
from sparkrec.encoding.rows import (
    HISTORY_LENGTH,
    check_lists,
    hold_out_last,
    positives_only,
    row_counts,
    with_history_features,
)
from sparkrec.encoding.sides import ItemEncoder, QueryEncoder
from sparkrec.errors import ConfigError
from sparkrec.io import storage
from sparkrec.models.gru4rec import GRU4Rec
from sparkrec.models.sequence import SequenceNetwork
from sparkrec.retrieval.search.index import VectorIndex
from sparkrec.retrieval.two_tower import Network, TwoTowerModel
from sparkrec.schema.parser import FeatureSchema
from sparkrec.training.blocks import BlockRetriever, param_name
from sparkrec.training.checkpoint import read_tensors, write_tensors
from sparkrec.training.distributed import check_slots, run_training
from sparkrec.training.loop import FINAL
from sparkrec.training.spec import TrainingTask
from sparkrec.training.warm_start import grown_weights
from sparkrec.transforms.negatives import sample_negatives

log = logging.getLogger("sparkrec.training")

Ints = npt.NDArray[np.int64]


class TwoTowerRetriever(BlockRetriever):
    """Trains a two-tower network.

    Parameters
    ----------
    config
        Anything with `model`, `loss`, `training` and `retrieval` blocks (a job's config, say) to
        take the params from; the defaults otherwise.
    user_schema, item_schema
        Feature declarations. By default the user side has the user id, the last item and the
        recent items, the item side the item id.
    items, users
        Tables with the features that the schemas name and train does not have.
    events
        All events of train, where `train` has only some (positives): what counts as a candidate
        and as popular. `train` itself by default.
    validation
        Queries with `relevant` and a history, to stop early on. By default, with
        `early_stopping`, the last event of every user in train is held out, and trained on only
        in the refit.
    work_path
        Where encoded rows and checkpoints go, a path that all workers reach; a temporary local
        folder by default.
    fingerprint
        Content hashes of the inputs; a checkpoint is only resumed with equal ones.
    params
        By name, snake_case: those of every retriever, and every key of the four blocks
        (`embedding_dim`, `temperature`, `epochs`, ...).

    Notes
    -----
    `train` has one row a positive, with `negatives`; or rows with a `label`; or is a plain events
    table, whose rows are all positives and get history and `num_negatives` sampled negatives.
    """

    model_name: ClassVar[str]
    model_class: ClassVar[type[TwoTowerModel]]

    seed: Param[int] = Param(Params._dummy(), "seed", "of all random choices")
    num_negatives: Param[int] = Param(
        Params._dummy(), "num_negatives", "drawn where train has none"
    )
    negative_alpha: Param[float] = Param(
        Params._dummy(), "negative_alpha", "negatives are drawn by popularity^alpha"
    )
    user_buckets: Param[dict[str, int]] = Param(
        Params._dummy(), "user_buckets", "user features hashed modulo a number of rows"
    )
    item_buckets: Param[dict[str, int]] = Param(
        Params._dummy(), "item_buckets", "item features hashed modulo a number of rows"
    )
    max_list_length: Param[int] = Param(
        Params._dummy(), "max_list_length", "values of a list that are kept"
    )

    def __init__(
        self,
        config: Any = None,
        *,
        user_schema: FeatureSchema | None = None,
        item_schema: FeatureSchema | None = None,
        items: DataFrame | None = None,
        users: DataFrame | None = None,
        events: DataFrame | None = None,
        validation: DataFrame | None = None,
        work_path: str | None = None,
        fingerprint: Mapping[str, str] | None = None,
        **params: Any,
    ) -> None:
        super().__init__()
        self.user_schema, self.item_schema = user_schema, item_schema
        self.items, self.users, self.events, self.validation = items, users, events, validation
        self.work_path = work_path
        self.fingerprint = fingerprint
        self._setDefault(
            seed=0,
            num_negatives=10,
            negative_alpha=0.75,
            user_buckets={},
            item_buckets={},
            max_list_length=64,
        )
        self._set_blocks(config)
        self.set_params(**params)

    # ------------------------------------------------------------------------------- fitting

    def _fit(self, dataset: DataFrame) -> TwoTowerModel:
        started = perf_counter()
        user_schema, item_schema = self._schemas()
        check_slots(dataset.sparkSession, self.get("workers"))
        network_class = self.model_class.network_class()
        if self.get("session_parallel") and not issubclass(network_class, GRU4Rec):
            raise ConfigError(
                "training.session_parallel carries a state from step to step, and "
                f"{self.model_name} has none; leave it out"
            )
        train, validation = self._training_rows(dataset, user_schema)
        # Rows with a hundred negatives in memory would leave a driver's usual heap no room to read.
        train.persist(StorageLevel.DISK_ONLY)
        try:
            previous = self._previous_model()
            catalogue = Catalogue.of(self._all_events(dataset), self.get("item_col"))
            if previous is not None:
                catalogue = previous.catalogue.grow(catalogue)
            users, items, features = fit_sides(
                train,
                self.items,
                (user_schema, item_schema),
                catalogue,
                SideSettings(
                    self.columns,
                    self.model_name,
                    self._history_length(),
                    not issubclass(network_class, SequenceNetwork),
                    self.get("max_list_length"),
                    self.get("user_buckets"),
                    self.get("item_buckets"),
                ),
                (previous.user_encoder, previous.item_encoder) if previous else None,
            )
            work = self.work_path or tempfile.mkdtemp(prefix="sparkrec-")
            encoded = self._encode(train, users, storage.join(work, "encoded"))
            tensors = self._tensors(train, validation, users, features)
        finally:
            train.unpersist()
        prepared = perf_counter() - started
        task = self._task(encoded, tensors, users, items, work, previous)
        progress = run_training(dataset.sparkSession, task)
        weights = read_tensors(storage.join(task.checkpoint_path, FINAL))
        network = Network(task.model, task.model_config, task.user, task.item, weights)
        fitted = perf_counter() - started
        index = VectorIndex.build(
            network.item_vectors(features[2:]), self._block("retrieval"), catalogue.order
        )
        about = {
            "seconds": {
                "prepare": prepared,
                "fit": fitted,
                "index": perf_counter() - started - fitted,
            },
            "history": progress.history,
            "training_rows": encoded.rows,
        }
        model = self.model_class(network, catalogue, users, items, index, about)
        model.users = self.users
        return self._copyValues(model)

    def _schemas(self) -> tuple[FeatureSchema, FeatureSchema]:
        columns = self.columns
        user: tuple[str, ...] = (columns.user, columns.last_item, columns.recent_items)
        if self._history_length():
            user = (columns.user, columns.recent_items)
        return (
            self.user_schema or plain_schema(user),
            self.item_schema or plain_schema((columns.item,)),
        )

    def _all_events(self, dataset: DataFrame) -> DataFrame:
        return dataset if self.events is None else self.events

    def _training_rows(
        self, dataset: DataFrame, user_schema: FeatureSchema
    ) -> tuple[DataFrame, DataFrame | None]:
        """Train with every column that encoding needs, and the validation queries."""
        columns = self.columns
        length = self._history_length() or HISTORY_LENGTH
        train = with_history_features(dataset, user_schema, columns, length)
        validation = None
        if self._block("training").early_stopping is not None:
            validation = self.validation
            if validation is None:
                train, validation = hold_out_last(train, columns)
        loss = self._block("loss")
        if loss.negatives != "given" or (loss.name != "bce" and LABEL in train.columns):
            train = positives_only(train)
        elif NEGATIVES not in train.columns and LABEL not in train.columns:
            train = sample_negatives(
                train,
                self._all_events(dataset),
                columns,
                self.get("num_negatives"),
                self.get("negative_alpha"),
                self.get("seed"),
            )
        train = join_users(train, self.users, user_schema.used_columns, columns.user)
        user_schema.require(train.columns, "train")
        return train, validation

    def _history_length(self) -> int:
        """Recent items that the model reads by dense index; 0 where it does not."""
        return getattr(self._block("model"), "max_len", 0)

    def _encode(self, train: DataFrame, users: QueryEncoder, path: str) -> Encoded:
        check_lists(train, self.columns.recent_items, self._history_length())
        item, workers, seed = self.get("item_col"), self.get("workers"), self.get("seed")
        return encode_rows(train, item, users, users.catalogue, path, workers, seed)

    def _tensors(
        self,
        train: DataFrame,
        validation: DataFrame | None,
        users: QueryEncoder,
        item_features: Ints,
    ) -> dict[str, Tensor]:
        """What every training process reads whole (see `TrainingTask.tensors_path`)."""
        arrays = {"item_features": item_features}
        stopping = self._block("training").early_stopping
        if self._block("loss").negatives in ("in_batch", "sampled"):
            arrays["item_counts"] = row_counts(train, self.get("item_col"), users.catalogue)
        if validation is not None:
            whole = issubclass(self.model_class.network_class(), SequenceNetwork)
            from_history = FromHistory.wanted(
                users.schema, self.columns, self.get("history_col"), whole
            )
            arrays |= validation_arrays(
                query_features(
                    validation,
                    self.users,
                    users.schema,
                    self.columns.user,
                    from_history,
                    "validation",
                ),
                users,
                from_history,
                self.get("exclude_seen"),
                stopping.max_rows,
                self.get("seed"),
            )
        return {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in arrays.items()}

    def _task(
        self,
        encoded: Encoded,
        tensors: dict[str, Tensor],
        users: QueryEncoder,
        items: ItemEncoder,
        work: str,
        previous: TwoTowerModel | None,
    ) -> TrainingTask:
        tensors_path = storage.join(work, "tensors.safetensors")
        write_tensors(tensors_path, tensors)
        task = TrainingTask(
            model=self.model_name,
            model_config=configs.to_json(self._block("model")),
            user=users.tower_input,
            item=items.tower_input,
            loss=self._block("loss"),
            training=self._block("training"),
            seed=self.get("seed"),
            fields=encoded.fields,
            fit_path=encoded.fit_path,
            all_path=encoded.path,
            tensors_path=tensors_path,
            initial_weights=None,
            checkpoint_path=storage.join(work, "checkpoints"),
            fingerprint={"rows": str(encoded.rows), **(self.fingerprint or {})},
        )
        if previous is None:
            return task
        initial = storage.join(work, "initial.safetensors")
        write_tensors(initial, grown_weights(task, previous.network))
        return dataclasses.replace(task, initial_weights=initial)

    def _previous_model(self) -> TwoTowerModel | None:
        path = self.get(param_name("training", "model_in_path"))
        return self.model_class.load(path) if path else None
