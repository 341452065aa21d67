"""Cut each user's events into sessions, by the time that nothing happened."""

from pyspark.sql import SparkSession

from sparkrec.pipeline.cli import run_job
from sparkrec.transforms.sessionize import Sessionize, write_sessions


def main(config: Sessionize, spark: SparkSession) -> None:
    """Write the events with their sessions, and print how many."""
    print(write_sessions(spark, config))


if __name__ == "__main__":
    run_job(main, Sessionize)
