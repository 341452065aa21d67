"""The config of a count model's job, and its estimator."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sparkrec.models.registry import find_class
from sparkrec.pipeline.inputs import RetrievalJob, Tables, retriever_params
from sparkrec.retrieval.base import Retriever

ModelConfig = TypeVar("ModelConfig")


@dataclass(frozen=True)
class NoSettings:
    """The `model:` block of a model that has no settings."""


@dataclass(frozen=True, kw_only=True)
class CountJob(RetrievalJob, Generic[ModelConfig]):
    """Config of a job that fits a count model: `CountJob[ItemCFConfig]`.

    Attributes
    ----------
    model
        The params of the model.
    """

    model: ModelConfig


def count_estimator(job: CountJob[Any], tables: Tables) -> Retriever:
    """The estimator of a job."""
    estimator: Retriever = find_class(job.model_class)(job.model, **retriever_params(job))
    estimator.users = tables.users
    if estimator.hasParam("seed"):
        estimator.set_params(seed=job.seed)
    return estimator
