"""Print what a few users had and what a finished run recommends them, with the items' names."""

from pyspark.sql import SparkSession

from sparkrec.pipeline.cli import run_job
from sparkrec.pipeline.show import Show, show_recommendations


def main(config: Show, spark: SparkSession) -> None:
    """Print a block for each of the users."""
    print(show_recommendations(spark, config))


if __name__ == "__main__":
    run_job(main, Show)
