"""An S3 server (moto) in this process, with the bucket `test`."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

BUCKET = "test"
# For a job, beside AWS_ENDPOINT_URL. The server takes any keys.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
# What hadoop-aws 3.3 needs beside a newer Hadoop, whose defaults it cannot read.
S3A = {
    "aws.credentials.provider": "com.amazonaws.auth.EnvironmentVariableCredentialsProvider",
    "threads.keepalivetime": 60,
    "multipart.purge.age": 86400,
    "connection.ttl": 300000,
    "connection.request.timeout": 60000,
    "connection.idle.time": 60000,
    "connection.acquisition.timeout": 60000,
}


@contextmanager
def s3_server() -> Iterator[str]:
    """Run a server; yields its URL."""
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line per request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        client(endpoint).create_bucket(Bucket=BUCKET)
        yield endpoint
    finally:
        server.stop()


def client(endpoint: str) -> Any:
    """A client of boto3 for a server."""
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
