"""What is found in the long errors of Spark and of the system, of which these are real ones."""

import pytest

from sparkrec.pipeline.cli import user_message
from sparkrec.read_errors import explain, plain_path, unreadable_file

SPARK = """An error occurred while calling o115.collectToPython.
: org.apache.spark.SparkException: Exception thrown in awaitResult:
\tat org.apache.spark.util.SparkThreadUtils$.awaitResult(SparkThreadUtils.scala:70)
Caused by: org.apache.spark.SparkException: [FAILED_READ_FILE.{}] Encountered error while reading \
file file:///tmp/my%20data/t/part-0.zstd.parquet.  SQLSTATE: KD001
\tat org.apache.spark.sql.errors.QueryExecutionErrors$.cannotReadFilesError(Query.scala:920)"""


def test_a_damaged_file() -> None:
    error = RuntimeError(SPARK.format("NO_HINT"))
    line = (
        "cannot read /tmp/my data/t/part-0.zstd.parquet: it is damaged, or not in the format that "
        "the conf names; write it again"
    )
    assert explain(error) == user_message(error) == line


SPARK_35 = """Job aborted due to stage failure: Task 0 in stage 4.0 failed 1 times, most recent \
failure: Lost task 0.0 in stage 4.0 (TID 6) (driver): org.apache.spark.SparkException: \
Encountered error while reading file file:///tmp/my%20data/t/part-0.zstd.parquet. Details:
\tat org.apache.spark.sql.errors.QueryExecutionErrors$.cannotReadFilesError(Query.scala:864)"""
REMOVED_35 = """: org.apache.spark.SparkException: Job aborted: java.io.FileNotFoundException: \
File file:/tmp/my%20data/t/part-0.parquet does not exist
It is possible the underlying files have been updated. You can explicitly invalidate the cache"""


def test_the_texts_of_spark_35() -> None:
    found = unreadable_file(RuntimeError(SPARK_35))
    assert found is not None
    assert (found.path, found.removed) == ("/tmp/my data/t/part-0.zstd.parquet", False)
    found = unreadable_file(RuntimeError(REMOVED_35))
    assert found is not None
    assert (found.path, found.removed) == ("/tmp/my data/t/part-0.parquet", True)
    gone = "[PATH_NOT_FOUND] Path does not exist: file:/tmp/my data/t."
    found = unreadable_file(RuntimeError(gone))
    assert found is not None and (found.path, found.removed) == ("/tmp/my data/t", True)
    footer = "java.io.IOException: Could not read footer for file: file:/a/b.parquet.\n\tat x"
    found = unreadable_file(RuntimeError(footer))
    assert found is not None and found.path == "/a/b.parquet"


S3_REFUSES = (
    SPARK.replace("file:///tmp/my%20data/t", "s3a://test/x")
    + """
Caused by: org.apache.hadoop.fs.s3a.AWSClientIOException: getFileStatus on s3a://test/x/p.parquet: \
com.amazonaws.SdkClientException: Unable to execute HTTP request: Connect to h:4 failed: \
Connection refused: Unable to execute HTTP request: Connect to h:4 failed: Connection refused
\tat org.apache.hadoop.fs.s3a.S3AUtils.translateException(S3AUtils.java:214)"""
)


HEAD_REFUSED = """An error occurred while calling o96.parquet.
: org.apache.hadoop.fs.s3a.AWSBadRequestException: getFileStatus on s3a://b/t: \
com.amazonaws.services.s3.model.AmazonS3Exception: Bad Request (Service: Amazon S3; Status Code: \
400; Error Code: 400 Bad Request; Request ID: null; S3 Extended Request ID: null; Proxy: null)
\tat org.apache.hadoop.fs.s3a.S3AUtils.translateException(S3AUtils.java:243)"""
ARROW = (
    "When listing objects under key 'x/' in bucket 'b': AWS Error UNKNOWN (HTTP status 400) during "
    "ListObjectsV2 operation: Unable to parse ExceptionName: ExpiredToken Message: The provided"
)


def test_an_expired_token() -> None:
    told = explain(RuntimeError(HEAD_REFUSED))
    assert told is not None and told.startswith("s3://b/t: S3 answered 400 without a reason; if")
    assert "training.resume: true" in told
    told = explain(OSError(ARROW))
    assert told is not None and told.startswith("s3://b/x/: the session token has expired; get new")


def test_a_file_that_s3_did_not_give_is_not_damaged() -> None:
    error = RuntimeError(S3_REFUSES.format("NO_HINT"))
    assert unreadable_file(error) is None
    assert str(explain(error)) == (
        "S3 failed at s3://test/x/p.parquet: Connect to h:4 failed: Connection refused; check the "
        "endpoint (AWS_ENDPOINT_URL) and the credentials, and run the job again"
    )


def test_a_file_that_was_removed() -> None:
    error = RuntimeError(SPARK.format("FILE_NOT_EXIST"))
    found = unreadable_file(error)
    assert found is not None and found.removed
    assert str(explain(error)).startswith("/tmp/my data/t/part-0.zstd.parquet was removed or repl")


def test_a_folder_that_was_removed() -> None:
    text = "[PATH_NOT_FOUND] Path does not exist: file:/tmp/my data/t. SQLSTATE: 42K03;"
    found = unreadable_file(RuntimeError(text))
    assert found is not None and found.path == "/tmp/my data/t" and found.removed


def test_keys_that_expire_while_spark_reads() -> None:
    """S3A asks with HEAD, whose answer has no reason."""
    text = (
        "org.apache.hadoop.fs.s3a.AWSBadRequestException: getFileStatus on s3a://test/x/p.parquet: "
        "com.amazonaws.services.s3.model.AmazonS3Exception: Bad Request (Service: Amazon S3; "
        "Status Code: 400; Error Code: 400 Bad Request; Request ID: null): 400 Bad Request"
    )
    line = explain(RuntimeError(text))
    assert line is not None and line.startswith("s3://test/x/p.parquet: S3 answered 400")
    assert "it has probably expired: get new credentials, and run the job again" in line
    assert unreadable_file(RuntimeError(text)) is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "java.lang.RuntimeException: file:/a/b.parquet is not a Parquet file. Expected magic",
            "cannot read /a/b.parquet: it is damaged",
        ),
        (
            "Caused by: java.io.IOException: No space left on device\n\tat java.base/sun.nio",
            "no space left on the device; free some",
        ),
        (
            "Lost task 0.3 in stage 5.0 (TID 9) (10.0.0.7 executor 3): java.io.IOException: "
            "No space left on device",
            "no space left on the device of executor 3 on 10.0.0.7; free some",
        ),
        (
            "Lost task 0.0 in stage 5.0 (TID 9) (10.0.0.7 executor driver): java.io.IOException: "
            "No space left on device",
            "no space left on the device; free some",
        ),
        (
            "OSError: [Errno 28] No space left on device: '/a/b'",
            "no space left on the device: /a/b",
        ),
        (
            "OSError: [Errno 30] Read-only file system: '/a/b'",
            "no permission to read or write /a/b;",
        ),
        (
            "java.io.FileNotFoundException: /a/b (Permission denied)",
            "no permission to read or write",
        ),
    ],
)
def test_other_errors(text: str, line: str) -> None:
    assert str(explain(RuntimeError(text))).startswith(line)


def test_a_bug_is_not_explained() -> None:
    assert explain(KeyError("reading file x")) is None
    assert user_message(ValueError("No such element")) is None


def test_paths_of_spark() -> None:
    assert plain_path("file:/a%20b/c") == plain_path("file:///a%20b/c") == "/a b/c"
    assert plain_path("s3a://bucket/a%20b") == "s3://bucket/a b"
    assert plain_path("/a%20b") == "/a%20b"
