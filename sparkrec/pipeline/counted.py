"""The config of a count model's job, and the steps that its jobs share."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from sparkrec.baselines.item_to_item.model import ItemToItemModel
from sparkrec.io.tables import write_table
from sparkrec.pipeline.inputs import RetrievalJob
from sparkrec.pipeline.run import Run
from sparkrec.retrieval.base import Retriever

ModelConfig = TypeVar("ModelConfig")


@dataclass(frozen=True, kw_only=True)
class CountJob(RetrievalJob, Generic[ModelConfig]):
    """Config of a job that fits a count model: `CountJob[ItemCFConfig]`.

    Attributes
    ----------
    model
        The params of the model.
    """

    model: ModelConfig


def item_to_item_model(run: Run, estimator: Retriever) -> ItemToItemModel:
    """Fit and save the model with its I2I table (`i2i/`), or load the saved one.

    A loaded model is asked as the conf says (`trigger`, `decay`, ...), not as it was saved.
    """
    model = run.model(estimator)
    assert isinstance(model, ItemToItemModel)
    if "train" in run.job.mode:
        i2i = model.i2i(run.tables.test.sparkSession)
        write_table(i2i, run.path("i2i"), run.job.job, overwrite=True)
    else:
        asked = ("trigger", "decay", "max_history")
        model.set_params(**{name: estimator.get(name) for name in asked})
    return model
