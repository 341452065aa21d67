"""The pyspark.ml Estimator of two-tower models; `training.retrievers` has one class per model.

``DSSM(config, items=items).fit(train).transform(queries)`` does the same in a notebook as a job: it
encodes the rows on Spark, reads them through petastorm, trains in the driver or on executors, and
builds the index of the items.
"""

import dataclasses
import logging
from collections.abc import Mapping
from time import perf_counter
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pyspark import StorageLevel
from pyspark.ml.param import Param, Params
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from torch import Tensor

from sparkrec.config.load import to_json
from sparkrec.encoding.count_catalogue import count_catalogue
from sparkrec.encoding.declared import plain_schema
from sparkrec.encoding.encode import LABEL, NEGATIVES, Encoded, encode_rows
from sparkrec.encoding.fit_sides import Sides, SideSettings, fit_sides
from sparkrec.encoding.history_columns import HistoryColumns
from sparkrec.encoding.queries import join_users, query_features, validation_arrays
from sparkrec.encoding.rows import (
    HISTORY_LENGTH,
    check_lists,
    hold_out_last,
    positives_only,
    row_counts,
    with_history_features,
)
from sparkrec.errors import ConfigError
from sparkrec.io import storage
from sparkrec.io.tensors import read_tensors, write_tensors
from sparkrec.item_index import FIRST_ITEM
from sparkrec.models.registry import class_path
from sparkrec.models.two_tower import Reads, TwoTowerNetwork
from sparkrec.retrieval.answering.network import NetworkSpec, TrainedNetwork
from sparkrec.retrieval.answering.two_tower import TwoTowerParts
from sparkrec.retrieval.base import Retriever
from sparkrec.retrieval.search.index import VectorIndex
from sparkrec.retrieval.search.settings import Retrieval
from sparkrec.retrieval.two_tower import TwoTowerModel
from sparkrec.schema.parser import FeatureSchema
from sparkrec.schema.text import Text
from sparkrec.scratch import new_scratch_folder
from sparkrec.session import ship_module
from sparkrec.training.cluster import check_cluster
from sparkrec.training.compatibility import require_compatible, require_trainable
from sparkrec.training.distributed import run_training
from sparkrec.training.epoch_models import EpochModels
from sparkrec.training.loop import FINAL
from sparkrec.training.settings import Loss, Training
from sparkrec.training.spec import TrainingSpec
from sparkrec.training.warm_start import grown_weights
from sparkrec.transforms.negatives import sample_negatives
from sparkrec.transforms.weights import check_weights

log = logging.getLogger("sparkrec.training")

Ints = npt.NDArray[np.int64]


class TwoTowerRetriever(Retriever):
    """Trains a two-tower network.

    Parameters
    ----------
    config
        An object with the blocks `model`, `loss`, `training` and `retrieval`, such as the config of
        a job, from which the params are taken; by default the defaults of these blocks.
    user_schema, item_schema
        Feature declarations. By default the user side has the columns that the network names
        (`Reads.default_features`), and the item side has the item id.
    items, users
        Tables with the features that the schemas name and train does not have.
    events
        All events of train, if `train` has only the positives. Its items are the candidates, and
        their counts the popularity. By default `train`.
    validation
        Queries with `relevant` and a history, for early stopping. By default, with
        `early_stopping`, the last event of every user in train is held out, and is only trained on
        in the refit.
    work_path
        Folder for encoded rows and checkpoints that all workers can reach; by default a temporary
        local folder.
    fingerprint
        Content hashes of the inputs. A checkpoint is only resumed if they are equal.
    models_path
        Folder for the models of single epochs, which all workers can reach; needed with
        `save_inference_interval`.
    params
        Params by name, in snake_case: those of every retriever, and every key of the four blocks
        (`embedding_dim`, `temperature`, `epochs`, ...). `explainParams()` lists them.

    Notes
    -----
    `train` is one of: a table with one row per positive and a column `negatives`; a table with a
    column `label`; or a plain events table, whose rows are all positives and get a history and
    `num_negatives` sampled negatives.
    """

    network_class: ClassVar[type[TwoTowerNetwork]]
    model_class = TwoTowerModel

    seed: Param[int] = Param(Params._dummy(), "seed", "seed of all random numbers")
    num_negatives: Param[int] = Param(
        Params._dummy(), "num_negatives", "negatives to sample per positive if train has none"
    )
    negative_alpha: Param[float] = Param(
        Params._dummy(), "negative_alpha", "negatives are drawn by popularity^negative_alpha"
    )
    user_buckets: Param[dict[str, int]] = Param(
        Params._dummy(), "user_buckets", "number of rows by user feature, for hash modulo"
    )
    item_buckets: Param[dict[str, int]] = Param(
        Params._dummy(), "item_buckets", "number of rows by item feature, for hash modulo"
    )
    max_list_length: Param[int] = Param(
        Params._dummy(), "max_list_length", "maximum number of values of a list feature"
    )
    text: Param[Text] = Param(
        Params._dummy(), "text", "how texts are turned into words, a schema.text.Text"
    )

    def __init_subclass__(cls, **arguments: Any) -> None:
        network = getattr(cls, "network_class", None)
        if network is not None:
            cls.config_blocks = {
                "model": network.Config,
                "loss": Loss,
                "training": Training,
                "retrieval": Retrieval,
            }
        super().__init_subclass__(**arguments)

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
        models_path: str | None = None,
        **params: Any,
    ) -> None:
        self.models_path = models_path
        self.user_schema, self.item_schema = user_schema, item_schema
        self.items, self.events, self.validation = items, events, validation
        self.fingerprint = fingerprint
        super().__init__(config, users=users, work_path=work_path, **params)
        self._setDefault(
            num_negatives=10,
            negative_alpha=0.75,
            user_buckets={},
            item_buckets={},
            max_list_length=64,
            text=Text(),
        )

    # ------------------------------------------------------------------------------- fitting

    def _fit(self, dataset: DataFrame) -> TwoTowerModel:
        started = perf_counter()
        spark = dataset.sparkSession
        network = class_path(self.network_class)
        ship_module(spark, network.partition(":")[0])
        work = self.work_path or str(new_scratch_folder())
        check_cluster(spark, self.get("workers"), self.get("use_gpu"), work)
        require_compatible(self.block("loss"), self.block("training"))
        require_trainable(self.network_class, self._reads, self.block("training"))
        if self.get("save_inference_interval") is not None and self.models_path is None:
            raise ConfigError(
                "training.save_inference_interval needs `models_path`, the folder of the models"
            )
        schemas = self._schemas()
        train, validation = self._training_rows(dataset, schemas[0])
        # On disk, because rows with a hundred negatives would fill the usual heap of a driver.
        train.persist(StorageLevel.DISK_ONLY)
        try:
            previous = self._previous_model()
            sides = self._fit_sides(dataset, train, schemas, previous)
            self.block("retrieval").check_items(len(sides.item_features) - FIRST_ITEM)
            encoded = self._encode(train, sides, storage.join(work, "encoded"))
            tensors = self._tensors(train, validation, sides)
        finally:
            train.unpersist()
        prepared = perf_counter() - started
        shapes = sides.users.tower_input, sides.items.tower_input
        spec = self._spec(
            NetworkSpec(network, to_json(self.block("model")), *shapes), encoded, tensors, work
        )
        if previous is not None:
            spec = _warm_start(spec, previous, work)
        if self.get("save_inference_interval") is not None:
            models = self._epoch_models(spec.network, sides, storage.join(work, "template"))
            spec = dataclasses.replace(spec, epoch_models=models)
        progress = run_training(spark, spec)
        weights = read_tensors(storage.join(spec.checkpoint_path, FINAL))
        content = {name: torch.from_numpy(value) for name, value in sides.content.items()}
        trained = TrainedNetwork(spec.network, weights, content)
        fitted = perf_counter() - started
        vectors = trained.item_vectors(sides.item_features[FIRST_ITEM:])
        index = VectorIndex.build(vectors, self.block("retrieval"), sides.catalogue.order)
        report = {
            "seconds": {
                "prepare": prepared,
                "fit": fitted,
                "index": perf_counter() - started - fitted,
            },
            "history": progress.history,
            "diverged": progress.diverged,
            "training_rows": encoded.rows,
        }
        parts = TwoTowerParts(trained, sides.catalogue, sides.users, sides.items, index)
        model = self.model_class(parts, report)
        model.users = self.users
        return self._copyValues(model)

    @property
    def _reads(self) -> Reads:
        return self.network_class.reads(self.block("model"))

    def _schemas(self) -> tuple[FeatureSchema, FeatureSchema]:
        columns = self.columns
        names = {
            "user": columns.user,
            "last_item": columns.last_item,
            "recent_items": columns.recent_items,
        }
        user = tuple(names[role] for role in self._reads.default_features)
        return (
            self.user_schema or plain_schema(user),
            self.item_schema or plain_schema((columns.item,)),
        )

    def _all_events(self, dataset: DataFrame) -> DataFrame:
        return dataset if self.events is None else self.events

    def _training_rows(
        self, dataset: DataFrame, user_schema: FeatureSchema
    ) -> tuple[DataFrame, DataFrame | None]:
        """The training rows with all columns that encoding needs, and the validation queries."""
        columns = self.columns
        length = self._reads.history or HISTORY_LENGTH
        train = with_history_features(dataset, user_schema, columns, length)
        validation = None
        if self.block("training").early_stopping is not None:
            validation = self.validation
            if validation is None:
                train, validation = hold_out_last(train, columns)
        loss = self.block("loss")
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

    def _fit_sides(
        self,
        dataset: DataFrame,
        train: DataFrame,
        schemas: tuple[FeatureSchema, FeatureSchema],
        previous: TwoTowerModel | None,
    ) -> Sides:
        catalogue = count_catalogue(self._all_events(dataset), self.get("item_col"))
        known = None
        if previous is not None:
            catalogue = previous.catalogue.grow(catalogue)
            known = previous.parts.user_encoder, previous.parts.item_encoder
        settings = SideSettings(
            self.columns,
            self.network_class.__name__,
            self._reads,
            self.get("max_list_length"),
            self.get("text"),
            self.get("user_buckets"),
            self.get("item_buckets"),
        )
        return fit_sides(train, self.items, schemas, catalogue, settings, known)

    def _encode(self, train: DataFrame, sides: Sides, path: str) -> Encoded:
        check_lists(train, self.columns.recent_items, self._reads.history)
        item, workers, seed = self.get("item_col"), self.get("workers"), self.get("seed")
        return encode_rows(train, item, sides.users, path, workers, seed, self._weight(train))

    def _weight(self, train: DataFrame) -> Column | None:
        """The weight of each row of train in the loss, if rows have weights; their mean is 1."""
        name = self.get("weight_col")
        if name is None:
            return None
        return F.col(f"`{name}`") / check_weights(train, name).mean

    def _tensors(
        self, train: DataFrame, validation: DataFrame | None, sides: Sides
    ) -> dict[str, Tensor]:
        """The tensors that every training process reads (see `TrainingSpec.tensors_path`)."""
        arrays = {"item_features": sides.item_features, **sides.content}
        stopping = self.block("training").early_stopping
        if self.block("loss").negatives in ("in_batch", "sampled"):
            arrays["item_counts"] = row_counts(train, self.get("item_col"), sides.catalogue)
        if validation is not None:
            schema, user = sides.users.schema, self.columns.user
            history_columns = HistoryColumns.read_by(
                schema, self.columns, self.get("history_col"), self._reads.whole_history
            )
            queries = query_features(
                validation, self.users, schema, user, history_columns, "validation"
            )
            arrays |= validation_arrays(
                queries,
                sides.users,
                history_columns,
                self.get("exclude_seen"),
                stopping.max_rows,
                self.get("seed"),
            )
        return {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in arrays.items()}

    def _spec(
        self, network: NetworkSpec, encoded: Encoded, tensors: dict[str, Tensor], work: str
    ) -> TrainingSpec:
        tensors_path = storage.join(work, "tensors.safetensors")
        write_tensors(tensors_path, tensors)
        return TrainingSpec(
            network=network,
            loss=self.block("loss"),
            training=self.block("training"),
            seed=self.get("seed"),
            fields=encoded.fields,
            fit_path=encoded.fit_path,
            all_path=encoded.path,
            tensors_path=tensors_path,
            initial_weights=None,
            checkpoint_path=storage.join(work, "checkpoints"),
            fingerprint={"rows": str(encoded.rows), **(self.fingerprint or {})},
        )

    def _epoch_models(self, network: NetworkSpec, sides: Sides, template: str) -> EpochModels:
        """Write what the models of all epochs have in common."""
        assert self.models_path is not None
        settings = self.block("retrieval")
        content = {name: torch.from_numpy(value) for name, value in sides.content.items()}
        untrained, index = TrainedNetwork(network, {}, content), VectorIndex.empty(settings)
        parts = TwoTowerParts(untrained, sides.catalogue, sides.users, sides.items, index)
        self._copyValues(self.model_class(parts)).write_folder(template)
        interval = self.get("save_inference_interval")
        return EpochModels(template, self.models_path, interval, settings)

    def _previous_model(self) -> TwoTowerModel | None:
        path = self.get(self.param_name("training", "model_in_path"))
        return self.model_class.load(path) if path else None


def _warm_start(spec: TrainingSpec, previous: TwoTowerModel, work: str) -> TrainingSpec:
    """The spec of a training that starts from an earlier model's weights."""
    initial = storage.join(work, "initial.safetensors")
    write_tensors(initial, grown_weights(spec, previous.parts.network))
    return dataclasses.replace(spec, initial_weights=initial)
