"""What is made of train before it is encoded."""

import pytest
from pyspark.sql import SparkSession

from sparkrec.encoding.rows import check_lists


def test_says_so_where_the_lists_of_train_are_shorter_than_what_is_read(
    spark: SparkSession, caplog: pytest.LogCaptureFixture
) -> None:
    train = spark.createDataFrame([(1, [3, 4]), (2, [2]), (3, None)], "i int, recent array<int>")
    for read, says in ((2, False), (3, True)):
        caplog.clear()
        check_lists(train, "recent", read)
        assert ("at most 2 items, but the model reads up to 3" in caplog.text) == says
    caplog.clear()
    check_lists(train, "other", 3)
    check_lists(train, "recent", 0)
    assert not caplog.text
