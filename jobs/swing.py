"""Swing: compare the users of every item in pairs, write the I2I table, recommend, evaluate."""

from pyspark.sql import SparkSession

from sparkrec.baselines.item_to_item.swing import Swing, SwingConfig
from sparkrec.pipeline.cli import run_job
from sparkrec.pipeline.counted import CountJob, item_to_item_model
from sparkrec.pipeline.inputs import read_inputs, retriever_params
from sparkrec.pipeline.run import Run


def main(job: CountJob[SwingConfig], spark: SparkSession) -> None:
    """Run the whole path, and print the table of metrics."""
    tables = read_inputs(spark, job)
    run = Run(job, tables)
    estimator = Swing(job.model, seed=job.seed, **retriever_params(job))
    run.evaluate(item_to_item_model(run, estimator), "swing")
    run.evaluate_yardsticks()
    print(run.finish())


if __name__ == "__main__":
    run_job(main, CountJob[SwingConfig])
