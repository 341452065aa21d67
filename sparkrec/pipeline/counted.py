"""The configs of the jobs of models without a network, and their estimators."""

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sparkrec.baselines.content.base import ContentRetriever
from sparkrec.errors import ConfigError
from sparkrec.models.registry import find_class
from sparkrec.pipeline.inputs import RetrievalJob, Tables, retriever_params
from sparkrec.pipeline.schema import Schema
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


@dataclass(frozen=True, kw_only=True)
class ContentJob(CountJob[ModelConfig]):
    """Config of a job whose model knows items by their features alone."""

    schema: Schema = field(default_factory=Schema)


def count_estimator(job: CountJob[Any], tables: Tables) -> Retriever:
    """The estimator of a job."""
    return _estimator(find_class(job.model_class), job.model, job, tables)


def yardstick(name: str, job: RetrievalJob, tables: Tables) -> Retriever:
    """The estimator of a yardstick of any job, with its default settings."""
    return _estimator(find_class(name), None, job, tables)


def _estimator(
    kind: type[Retriever], settings: Any, job: RetrievalJob, tables: Tables
) -> Retriever:
    params = retriever_params(job)
    if issubclass(kind, ContentRetriever):
        params |= _content(kind.__name__, job, tables)
    estimator = kind(settings, **params)
    estimator.users = tables.users
    if estimator.hasParam("seed"):
        estimator.set_params(seed=job.seed)
    return estimator


def _content(name: str, job: RetrievalJob, tables: Tables) -> dict[str, Any]:
    """The arguments of a `ContentRetriever` that follow from a job.

    Raises
    ------
    ConfigError
        The conf names no schema, or there is no table of items.
    """
    schema: Schema | None = getattr(job, "schema", None)
    declared = None if schema is None else schema.read("item")
    if schema is None or declared is None:
        raise ConfigError(
            f"{name} reads the features of items that an item schema declares, but the conf has no "
            "schema.path; set it, or take the model out of evaluation.yardsticks"
        )
    if tables.items is None:
        raise ConfigError(f"{name} reads the features of items; name their table in input.items")
    return {
        "items": tables.items,
        "item_schema": declared,
        "text": schema.text,
        "item_buckets": schema.item_buckets,
        "max_list_length": schema.max_list_length,
    }
