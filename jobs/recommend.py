"""Answer a table of users or histories with a saved model, without anything of training."""

from pyspark.sql import SparkSession

from sparkrec.pipeline.cli import run_job
from sparkrec.retrieval.offline import Recommend, write_recommendations


def main(config: Recommend, spark: SparkSession) -> None:
    """Write the recommendations, and print how many queries were answered."""
    print(write_recommendations(spark, config))


if __name__ == "__main__":
    run_job(main, Recommend)
