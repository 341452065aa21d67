"""Global Hot, the most frequent items for everyone: the yardstick, through the same evaluator."""

from pyspark.sql import SparkSession

from sparkrec.baselines.popularity.global_hot import GlobalHot, GlobalHotJob
from sparkrec.pipeline.cli import run_job
from sparkrec.pipeline.inputs import read_inputs, retriever_params
from sparkrec.pipeline.run import Run


def main(job: GlobalHotJob, spark: SparkSession) -> None:
    """Count, recommend, evaluate, and print the table of metrics."""
    tables = read_inputs(spark, job)
    run = Run(job, tables)
    estimator = GlobalHot(job.model, users=tables.users, **retriever_params(job))
    run.evaluate(run.model(estimator), "global_hot")
    run.evaluate_yardsticks()
    print(run.finish())


if __name__ == "__main__":
    run_job(main, GlobalHotJob)
