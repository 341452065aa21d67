"""The pyspark.ml Estimator of sequence models: training rows are windows of events."""

from typing import Any, ClassVar

from pyspark.sql import DataFrame

from sparkrec.encoding.encode import LABEL, NEGATIVES, Encoded
from sparkrec.encoding.encode_windows import encode_windows
from sparkrec.encoding.fit_sides import Sides
from sparkrec.encoding.queries import join_users
from sparkrec.encoding.rows import hold_out_last
from sparkrec.errors import ConfigError, DataError, SchemaError
from sparkrec.retrieval.two_tower import TwoTowerModel
from sparkrec.schema.parser import FeatureSchema
from sparkrec.training.estimator import TwoTowerRetriever
from sparkrec.training.settings import Loss
from sparkrec.transforms._common import require_session


class SequenceRetriever(TwoTowerRetriever):
    """Trains a network that reads a user's items in order.

    The parameters are those of every two-tower retriever, but `train` is an events table (user,
    item, timestamp, position) with all events of a user: each event is a step of a window and the
    target of the step before it. By default the loss is the softmax over all items. If the network
    reads features of the user, they come from the table `users`, because a window has one value of
    each for all its steps.
    """

    block_defaults: ClassVar[dict[str, Any]] = {
        "loss": Loss(name="softmax", negatives="all", temperature=1.0)
    }

    def _training_rows(
        self, dataset: DataFrame, user_schema: FeatureSchema
    ) -> tuple[DataFrame, DataFrame | None]:
        if self.block("loss").negatives == "given":
            raise ConfigError(
                "loss.negatives: given is for two-tower models; a sequence model takes in_batch, "
                "sampled or all"
            )
        for name in (LABEL, NEGATIVES):
            if name in dataset.columns:
                raise DataError(
                    f"train has the column `{name}`, so it is made for a two-tower model; give a "
                    "sequence model the events themselves"
                )
        self._session(dataset)
        if self.block("training").early_stopping is None:
            return dataset, None
        if self.validation is not None:
            return dataset, self.validation
        return hold_out_last(dataset, self.columns)

    def _fit_sides(
        self,
        dataset: DataFrame,
        train: DataFrame,
        schemas: tuple[FeatureSchema, FeatureSchema],
        previous: TwoTowerModel | None,
    ) -> Sides:
        columns, schema = self.columns, schemas[0]
        known = {columns.user, columns.recent_items, *(self.users.columns if self.users else ())}
        for feature in schema.features:
            for column in feature.columns:
                if column not in known:
                    raise SchemaError(
                        f"{schema.source}: `{feature.name}` reads the column `{column}`, which is "
                        f"not in the users table; {self.network_class.__name__} reads the history "
                        "at every step, and features of the user that stay the same"
                    )
        if len(schema.features) > 1:
            train = train.select(columns.user).distinct()
            train = join_users(train, self.users, schema.used_columns, columns.user)
        return super()._fit_sides(dataset, train, schemas, previous)

    def _encode(self, train: DataFrame, sides: Sides, path: str) -> Encoded:
        return encode_windows(
            train,
            self.columns,
            sides.users,
            self.users,
            path,
            self.get("workers"),
            self.get("seed"),
            self._weight(train),
            self._session(train),
        )

    def _session(self, train: DataFrame) -> str | None:
        """The column of the session, if events are predicted from earlier sessions alone."""
        if not self.get("by_session"):
            return None
        return require_session(train, self.columns, "training.by_session")
