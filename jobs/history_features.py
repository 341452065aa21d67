"""Add to every event what its user did before it: recent items, the last one, their features."""

from pyspark.sql import SparkSession

from sparkrec.pipeline.cli import run_job
from sparkrec.transforms.features import HistoryFeatures, write_history_features


def main(config: HistoryFeatures, spark: SparkSession) -> None:
    """Write the events with history, and print how many."""
    print(write_history_features(spark, config))


if __name__ == "__main__":
    run_job(main, HistoryFeatures)
