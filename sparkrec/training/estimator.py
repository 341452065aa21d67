"""The pyspark.ml Estimator of two-tower models; `training.retrievers` has one class per model.

``DSSM(config, items=items).fit(train).transform(queries)`` does in a notebook what a job does:
encode on Spark, feed through petastorm, train in the driver or on executors, index the items.
"""

import dataclasses
import logging
import tempfile
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pyspark.ml.param import Param, Params
from pyspark.sql import DataFrame
from torch import Tensor

from sparkrec import config as configs
from sparkrec import storage
from sparkrec.columns import Columns
from sparkrec.errors import ConfigError
from sparkrec.retrieval.base import Retriever
from sparkrec.retrieval.catalogue import Catalogue
from sparkrec.retrieval.index import VectorIndex
from sparkrec.schema.encoder import FeatureEncoder
from sparkrec.schema.parser import Feature, FeatureSchema
from sparkrec.schema.spark import fit_encoder
from sparkrec.training.checkpoint import read_tensors, write_tensors
from sparkrec.training.distributed import check_slots, run_training
from sparkrec.training.encode import LABEL, NEGATIVES, Encoded, encode_rows
from sparkrec.training.loop import FINAL
from sparkrec.training.model import (
    Network,
    TwoTowerModel,
    join_users,
    query_features,
    tower_input,
)
from sparkrec.training.rows import (
    catalogue_features,
    hold_out_last,
    positives_only,
    row_counts,
    validation_arrays,
    with_history_features,
)
from sparkrec.training.task import TrainingTask
from sparkrec.training.warm_start import grown_weights
from sparkrec.transforms.negatives import sample_negatives

log = logging.getLogger("sparkrec.training")

Ints = npt.NDArray[np.int64]


class TwoTowerRetriever(Retriever):
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
    blocks: ClassVar[dict[str, type[Any]]]
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
        for name, kind in self.blocks.items():
            given = getattr(config, name, None)
            block = given or kind()
            for field in dataclasses.fields(kind):
                param = param_name(name, field.name)
                # Without a config, what every retriever has keeps every retriever's default.
                if given is not None or not hasattr(Retriever, param):
                    self._setDefault(**{param: getattr(block, field.name)})
        if config is not None and hasattr(config, "seed"):
            self._setDefault(seed=config.seed)
        self.set_params(**params)

    # ------------------------------------------------------------------------------- fitting

    def _fit(self, dataset: DataFrame) -> TwoTowerModel:
        started = perf_counter()
        user_schema, item_schema = self._schemas()
        check_slots(dataset.sparkSession, self.get("workers"))
        train, validation = self._training_rows(dataset, user_schema)
        train.persist()
        try:
            previous = self._previous_model()
            catalogue = Catalogue.of(self._all_events(dataset), self.get("item_col"))
            if previous is not None:
                catalogue = previous.catalogue.grow(catalogue)
            lists = int(self.get("max_list_length"))
            user_encoder = fit_encoder(
                [train.select(*user_schema.columns)],
                user_schema,
                lists,
                None if previous else self.get("user_buckets"),
                previous.user_encoder if previous else None,
            )
            item_table = catalogue_features(
                dataset.sparkSession, catalogue, self.items, item_schema, self.get("item_col")
            )
            item_encoder = fit_encoder(
                [dataset.sparkSession.createDataFrame(item_table)],
                item_schema,
                lists,
                None if previous else self.get("item_buckets"),
                previous.item_encoder if previous else None,
            )
            features = np.zeros((len(catalogue) + 2, item_encoder.width), np.int64)
            features[2:] = item_encoder.encode(item_table)
            work = self.work_path or tempfile.mkdtemp(prefix="sparkrec-")
            encoded = encode_rows(
                train,
                self.get("item_col"),
                user_encoder,
                catalogue,
                storage.join(work, "encoded"),
                self.get("workers"),
                self.get("seed"),
            )
            tensors = self._tensors(train, validation, user_encoder, catalogue, features)
        finally:
            train.unpersist()
        prepared = perf_counter() - started
        task = self._task(encoded, tensors, user_encoder, item_encoder, work, previous)
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
        model = self.model_class(network, catalogue, user_encoder, item_encoder, index, about)
        model.users = self.users
        return self._copyValues(model)

    def _copyValues(self, to: Any, extra: Any = None) -> Any:  # noqa: N802  pyspark's name
        """Give the model those params that it has; the others belong to training."""
        for param, value in self.extractParamMap(extra).items():
            if to.hasParam(param.name):
                to._set(**{param.name: value})
        return to

    def _block(self, name: str) -> Any:
        kind = self.blocks[name]
        values = {
            field.name: self.get(param_name(name, field.name)) for field in dataclasses.fields(kind)
        }
        try:
            return kind(**values)
        except ValueError as error:
            raise ConfigError(f"{name}.{error}") from None

    def _columns(self) -> Columns:
        return Columns(
            user=self.get("user_col"),
            item=self.get("item_col"),
            timestamp=self.get("timestamp_col"),
            position=self.get("position_col"),
        )

    def _schemas(self) -> tuple[FeatureSchema, FeatureSchema]:
        columns = self._columns()
        user = (columns.user, columns.last_item, columns.recent_items)
        return (
            self.user_schema or _plain_schema(user),
            self.item_schema or _plain_schema((columns.item,)),
        )

    def _all_events(self, dataset: DataFrame) -> DataFrame:
        return dataset if self.events is None else self.events

    def _training_rows(
        self, dataset: DataFrame, user_schema: FeatureSchema
    ) -> tuple[DataFrame, DataFrame | None]:
        """Train with every column that encoding needs, and the validation queries."""
        columns = self._columns()
        train = with_history_features(dataset, user_schema, columns)
        validation = None
        if self._block("training").early_stopping is not None:
            validation = self.validation
            if validation is None:
                train, validation = hold_out_last(train, columns)
        loss = self._block("loss")
        if loss.negatives == "in_batch" or (loss.name != "bce" and LABEL in train.columns):
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

    def _tensors(
        self,
        train: DataFrame,
        validation: DataFrame | None,
        user_encoder: FeatureEncoder,
        catalogue: Catalogue,
        item_features: Ints,
    ) -> dict[str, Tensor]:
        """What every training process reads whole (see `TrainingTask.tensors_path`)."""
        arrays = {"item_features": item_features}
        stopping = self._block("training").early_stopping
        if self._block("loss").negatives == "in_batch":
            arrays["item_counts"] = row_counts(train, self.get("item_col"), catalogue)
        if validation is not None:
            prepared = query_features(
                validation,
                self.users,
                user_encoder.schema,
                self._columns(),
                self.get("history_col"),
                "validation",
            )
            arrays |= validation_arrays(
                prepared,
                user_encoder,
                catalogue,
                self.get("history_col"),
                self.get("exclude_seen"),
                stopping.max_rows,
                self.get("seed"),
            )
        return {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in arrays.items()}

    def _task(
        self,
        encoded: Encoded,
        tensors: dict[str, Tensor],
        user_encoder: FeatureEncoder,
        item_encoder: FeatureEncoder,
        work: str,
        previous: TwoTowerModel | None,
    ) -> TrainingTask:
        tensors_path = storage.join(work, "tensors.safetensors")
        write_tensors(tensors_path, tensors)
        task = TrainingTask(
            model=self.model_name,
            model_config=configs.to_json(self._block("model")),
            user=tower_input(user_encoder),
            item=tower_input(item_encoder),
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


def _plain_schema(columns: Sequence[str]) -> FeatureSchema:
    features = tuple(Feature(name, (name,), (name,)) for name in columns)
    return FeatureSchema(tuple(columns), features, "the default schema")


def param_name(block: str, field: str) -> str:
    """The Param of a field of a config block."""
    return "loss" if (block, field) == ("loss", "name") else field
