"""S3 through boto3 and pyarrow.fs, for `storage` and `publishing`.

Credentials, region and endpoint come from the environment (`AWS_ACCESS_KEY_ID`,
`AWS_ENDPOINT_URL`, ...), never from a conf. A key ends without a slash.
"""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import pyarrow.fs

from sparkrec.errors import StorageError
from sparkrec.io.s3_failures import (
    CONNECT_TIMEOUT,
    READ_TIMEOUT,
    explained,
    explained_arrow,
    is_from_s3,
    repeat_failed_requests,
    with_reason,
)


@functools.lru_cache(maxsize=1)
def _client(process: int) -> Any:
    import boto3
    from botocore.config import Config

    client = boto3.client(
        "s3",
        config=Config(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            retries={"total_max_attempts": 1},
        ),
    )
    repeat_failed_requests(client)
    return client


def split(path: str) -> tuple[str, str]:
    """Bucket and key of a path."""
    bucket, _, key = path.split("://", 1)[1].partition("/")
    if not bucket:
        raise StorageError(f"{path} names no bucket; an S3 path reads s3://bucket/prefix")
    return bucket, key.strip("/")


def locate(path: str) -> tuple[Any, str, str]:
    """The client of this process, and a path's bucket and key."""
    return _client(os.getpid()), *split(path)


@contextmanager
def errors(path: str) -> Iterator[None]:
    """Translate the errors of boto3 to StorageError."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        client, bucket, key = locate(path)
        told = with_reason(error, client, bucket, key)
        raise StorageError(f"{path}: {explained(told, bucket)}") from error


def arrow_filesystem() -> pyarrow.fs.S3FileSystem:
    """pyarrow's S3 file system, with the endpoint and the region of the environment."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    options: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT,
        "request_timeout": READ_TIMEOUT,
        # Waits 25 ms and then always twice as long, 51 s in all. By default it is less than 1 s.
        "retry_strategy": pyarrow.fs.AwsDefaultS3RetryStrategy(max_attempts=11),
    }
    if endpoint:
        scheme, _, host = endpoint.rpartition("://")
        options |= {"endpoint_override": host, "scheme": scheme or "https"}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region:
        options["region"] = region
    return pyarrow.fs.S3FileSystem(**options)


@contextmanager
def arrow_errors(path: str) -> Iterator[None]:
    """Translate the errors of pyarrow to StorageError, if they are S3's; the path may be local."""
    try:
        yield
    except OSError as error:
        if not is_from_s3(error):
            raise
        raise StorageError(f"{path}: {explained_arrow(error, split(path)[0])}") from error


def objects_with_prefix(path: str) -> dict[str, int]:
    """Key and size of every object whose key begins with the path's; may match other folders."""
    client, bucket, key = locate(path)
    with errors(path):
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
        return {e["Key"]: e["Size"] for page in pages for e in page.get("Contents", [])}


def objects(path: str) -> dict[str, int]:
    """Key and size of every object at or below a path, including markers of empty folders."""
    _, _, key = locate(path)
    return {
        name: size
        for name, size in objects_with_prefix(path).items()
        if not key or name == key or name.startswith(f"{key}/")
    }


def get_size(path: str) -> int | None:
    """Size of an object in bytes, or None if it does not exist."""
    from botocore.exceptions import ClientError

    client, bucket, key = locate(path)
    if not key:
        return None
    with errors(path):
        try:
            return int(client.head_object(Bucket=bucket, Key=key)["ContentLength"])
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return None
            raise


def any_object(path: str) -> bool:
    """Whether there is an object at or below a path; markers of empty folders do not count."""
    client, bucket, key = locate(path)
    with errors(path):
        for prefix in (f"{key}/" if key else "", key):
            pages = client.get_paginator("list_objects_v2").paginate(
                Bucket=bucket, Prefix=prefix, PaginationConfig={"PageSize": 10}
            )
            for entry in (e for page in pages for e in page.get("Contents", [])):
                if prefix == key and key and entry["Key"] != key:
                    break  # the object itself would be the first
                if not entry["Key"].endswith("/"):
                    return True
    return False


def folders(path: str) -> list[str]:
    """Names of the folders (common prefixes) in a folder, sorted."""
    client, bucket, key = locate(path)
    prefix = f"{key}/" if key else ""
    with errors(path):
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=prefix, Delimiter="/"
        )
        found = [e["Prefix"] for page in pages for e in page.get("CommonPrefixes", [])]
    return sorted(name[len(prefix) :].rstrip("/") for name in found)


@dataclass(frozen=True)
class Stored:
    """A small object: its content, its version (etag), and its age in seconds by S3's clock."""

    content: bytes
    etag: str
    age: float


def get_stored(path: str) -> Stored | None:
    """Read a small object, or None if it does not exist."""
    from botocore.exceptions import ClientError

    client, bucket, key = locate(path)
    with errors(path):
        try:
            answer = client.get_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                return None
            raise
        content = answer["Body"].read()
    now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    age = (now - answer["LastModified"]).total_seconds()
    return Stored(content, answer["ETag"], age)


def put_if(path: str, content: bytes, etag: str | None) -> bool:
    """Write an object if it still is the version `etag`, or does not exist where this is None.

    Returns whether it was written. A store that knows no conditions writes in any case; so read the
    object again to be sure.
    """
    client, bucket, key = locate(path)
    put = functools.partial(client.put_object, Bucket=bucket, Key=key, Body=content)
    with errors(path):
        if etag is None:
            return _written(put, IfNoneMatch="*")
        if _written(put, IfMatch=etag):
            return True
        # Some versions of Ceph's gateway compare with the quotes, which their own etag has not, so
        # that the condition never holds.
        unchanged = (now := get_stored(path)) is not None and now.etag == etag
        return unchanged and _written(put, IfMatch=etag.strip('"'))


def _written(put: Callable[..., Any], **condition: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        put(**condition)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status in (404, 409, 412):
            return False
        if status != 501:
            raise
        put()
    return True


def delete(path: str, keys: Sequence[str]) -> None:
    """Remove objects of the path's bucket by their keys."""
    client, bucket, _ = locate(path)
    for start in range(0, len(keys), 1000):
        batch = [{"Key": key} for key in keys[start : start + 1000]]
        with errors(path):
            answer = client.delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})
        for failed in answer.get("Errors", []):
            raise StorageError(f"cannot remove s3://{bucket}/{failed['Key']}: {failed['Message']}")
