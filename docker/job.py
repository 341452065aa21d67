"""Waits for the bucket and the master of docker-compose.yml, then becomes the given command.

Podman ignores the conditions of `depends_on`, so the wait is here.
"""

import os
import socket
import sys
import time

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

MASTER = ("master", 7077)
PATIENCE = 90  # seconds


def own_address() -> str:
    """The address by which the cluster reaches this container."""
    with socket.create_connection(MASTER, timeout=5) as connection:
        return str(connection.getsockname()[0])


def check_bucket() -> None:
    """Raise unless the bucket of `MY_S3_BUCKET` is there."""
    bucket = os.environ["MY_S3_BUCKET"].removeprefix("s3://").partition("/")[0]
    config = Config(connect_timeout=5, read_timeout=5, retries={"total_max_attempts": 1})
    boto3.client("s3", config=config).head_bucket(Bucket=bucket)


def main() -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            address = own_address()
            check_bucket()
            break
        except (OSError, BotoCoreError, ClientError) as error:
            if time.monotonic() > end:
                sys.exit(f"error: the cluster is not ready after {PATIENCE} seconds: {error}")
            time.sleep(1)
    # Executors connect to the driver by this name; they cannot resolve the name of a container
    # that `compose run` started.
    os.environ["SPARK_LOCAL_HOSTNAME"] = address
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
