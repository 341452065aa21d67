"""The config of a two-tower model's job, and its estimator."""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from sparkrec.errors import DataError
from sparkrec.evaluation.protocols import protocol
from sparkrec.models.registry import find_class
from sparkrec.models.two_tower import require_network
from sparkrec.pipeline.inputs import RetrievalJob, Tables, retriever_params
from sparkrec.pipeline.schema import Schema
from sparkrec.training.compatibility import require_compatible
from sparkrec.training.estimator import TwoTowerRetriever
from sparkrec.training.retrievers import retriever_of
from sparkrec.training.settings import Loss, Training

ModelConfig = TypeVar("ModelConfig")


@dataclass(frozen=True, kw_only=True)
class TwoTowerJob(RetrievalJob, Generic[ModelConfig]):
    """Config of a job that trains a two-tower model, such as `TwoTowerJob[DSSMConfig]`."""

    model: ModelConfig
    schema: Schema = field(default_factory=Schema)
    loss: Loss = field(default_factory=Loss)
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_compatible(self.loss, self.training)


def two_tower_estimator(job: TwoTowerJob[ModelConfig], tables: Tables) -> TwoTowerRetriever:
    """Make the estimator of a job. Reads the schemas and checks them against the tables.

    Raises
    ------
    SchemaError
        A schema file is malformed, or names a column that no table has.
    DataError
        The validation rows would be trained on, because train does not mark them.
    """
    user_schema, item_schema = job.schema.read("user"), job.schema.read("item")
    if user_schema is not None:
        users = tables.users.columns if tables.users is not None else []
        derived = [job.columns.recent_items, job.columns.last_item]
        known = dict.fromkeys([*tables.train.columns, *users, *derived])
        user_schema.require(known, "input.train and input.users")
    if item_schema is not None:
        items = tables.items.columns if tables.items is not None else [job.columns.item]
        item_schema.require(items, "input.items")
    validation = tables.validation
    if validation is not None and job.training.early_stopping is not None:
        if job.columns.rating is not None or job.evaluation.rating_above is not None:
            validation = protocol(job.evaluation.protocol).relevant_queries(
                validation, job.columns.rating, job.evaluation.rating_above
            )
        if "is_validation" not in tables.train.columns:
            raise DataError(
                "input.train has no column `is_validation`, so the rows of input.validation would "
                "be trained on; make both with jobs/match_dataset.py, or remove input.validation"
            )
    return retriever_of(require_network(find_class(job.model_class), job.model_class))(
        job,
        user_schema=user_schema,
        item_schema=item_schema,
        items=tables.items,
        users=tables.users,
        events=tables.events,
        validation=validation,
        fingerprint=tables.fingerprint,
        user_buckets=job.schema.user_buckets,
        item_buckets=job.schema.item_buckets,
        max_list_length=job.schema.max_list_length,
        text=job.schema.text,
        **retriever_params(job),
    )
