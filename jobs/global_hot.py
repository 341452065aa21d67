"""Global Hot, the most frequent items for everyone: the yardstick, through the same evaluator."""

from pyspark.sql import SparkSession

from sparkrec.baselines.global_hot import GlobalHot
from sparkrec.cli import run_job
from sparkrec.evaluation.run import RetrievalJob, Run, read_inputs, retriever_params


def main(job: RetrievalJob, spark: SparkSession) -> None:
    """Count, recommend, evaluate, and print the table of metrics."""
    tables = read_inputs(spark, job)
    run = Run(job, tables)
    run.evaluate(run.model(GlobalHot(**retriever_params(job))), "global_hot")
    print(run.finish())


if __name__ == "__main__":
    run_job(main, RetrievalJob)
