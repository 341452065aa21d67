"""S3 through boto3 and pyarrow.fs, for `storage` and `publishing`.

Credentials, region and endpoint come from the environment (`AWS_ACCESS_KEY_ID`,
`AWS_ENDPOINT_URL`, ...), never from a conf. A key ends without a slash.
"""

import functools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow.fs

from sparkrec.errors import StorageError


@functools.lru_cache(maxsize=1)
def _client(process: int) -> Any:
    import boto3

    return boto3.client("s3")


def locate(path: str) -> tuple[Any, str, str]:
    """The client of this process, and a path's bucket and key."""
    bucket, _, key = path.split("://", 1)[1].partition("/")
    if not bucket:
        raise StorageError(f"{path} names no bucket; an S3 path reads s3://bucket/prefix")
    return _client(os.getpid()), bucket, key.strip("/")


@contextmanager
def errors(path: str) -> Iterator[None]:
    """Translate the errors of boto3 to StorageError."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise StorageError(f"{path}: {' '.join(str(error).split())}") from error


def arrow_filesystem() -> pyarrow.fs.S3FileSystem:
    """pyarrow's S3 file system, with the endpoint and the region of the environment."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    options: dict[str, Any] = {}
    if endpoint:
        scheme, _, host = endpoint.rpartition("://")
        options = {"endpoint_override": host, "scheme": scheme or "https"}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region:
        options["region"] = region
    return pyarrow.fs.S3FileSystem(**options)


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


def delete(path: str, keys: Sequence[str]) -> None:
    """Remove objects of the path's bucket by their keys."""
    client, bucket, _ = locate(path)
    for start in range(0, len(keys), 1000):
        batch = [{"Key": key} for key in keys[start : start + 1000]]
        with errors(path):
            answer = client.delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})
        for failed in answer.get("Errors", []):
            raise StorageError(f"cannot remove s3://{bucket}/{failed['Key']}: {failed['Message']}")
