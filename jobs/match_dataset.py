"""Split events into train, validation and test, or draw negatives for the positives of train."""

from pyspark.sql import SparkSession

from sparkrec.pipeline.cli import run_job
from sparkrec.transforms.match_dataset import MatchDataset, write_match_dataset


def main(config: MatchDataset, spark: SparkSession) -> None:
    """Write the tables, and print what each holds."""
    print(write_match_dataset(spark, config))


if __name__ == "__main__":
    run_job(main, MatchDataset)
