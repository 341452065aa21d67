"""When S3 fails: how long requests are repeated, and what the user reads in the end."""

import random
import re
import threading
import time
from typing import Any

from sparkrec.read_errors import BAD_REQUEST, TOKEN_EXPIRED

# Seconds from the first try of a request after which it is not repeated any more.
REPEATED_FOR = 40.0
CONNECT_TIMEOUT = 5
# For an answer; an endpoint that never answers is given up after twice this.
READ_TIMEOUT = 20
_LONGEST_WAIT = 5.0

_PASSING = {"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException"}
_PASSING_STATUS = {429, 500, 502, 503, 504}
_STARTED = "sparkrec_started"
# Set while S3 has been given up: requests are then tried once. A job that ends because S3 is gone
# still has a lease to release and files to remove, and would wait for each.
_given_up = threading.Event()

# As pyarrow words it.
_ARROW = re.compile(
    r"AWS Error (?P<kind>\w+)(?: \(HTTP status (?P<status>\d+)\))? during (?P<operation>\w+) "
    r"operation: (?:.*\bExceptionName: (?P<code>\w+))?(?P<text>.*)"
)

_CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give the machine a role"
)
# By the code of the answer; `{bucket}` is the path's bucket.
_EXPLAINED = {
    "NoSuchBucket": "there is no bucket `{bucket}`; make it, or mend its name",
    "InvalidAccessKeyId": f"the access key is unknown to the store; {_CREDENTIALS}",
    "SignatureDoesNotMatch": f"the secret key does not fit the access key; {_CREDENTIALS}",
    "ExpiredToken": TOKEN_EXPIRED,
    "InvalidToken": f"the session token is not valid; {_CREDENTIALS}",
    "AccessDenied": "the credentials do not allow {operation} here; change the policy of the "
    "bucket or of the user",
}
# The answer to a HEAD request has no code but its status.
_EXPLAINED["400"] = BAD_REQUEST
_EXPLAINED["403"] = _EXPLAINED["AccessDenied"] + f"; or they are wrong: {_CREDENTIALS}"


def repeat_failed_requests(client: Any) -> None:
    """Repeat requests of a boto3 client that failed for a passing reason.

    Repeats for up to 40 seconds when the store cannot be reached, does not answer, or answers with
    5xx or 429, and waits longer before each. Once a request was given up, the next ones are not
    repeated, until one is answered. The client's own retries have to be switched off.
    """
    client.meta.events.register("before-call.s3", _remember_start)
    client.meta.events.register("needs-retry.s3", _wait_before_repeating)


def _remember_start(context: dict[str, Any], **_: Any) -> None:
    context[_STARTED] = time.monotonic()


def _wait_before_repeating(
    response: Any, attempts: int, caught_exception: Any, request_dict: dict[str, Any], **_: Any
) -> float | None:
    """Seconds to wait before the request is sent again; None if it is not."""
    from botocore.exceptions import ConnectionError, HTTPClientError, SSLError

    if caught_exception is not None:
        unreachable = isinstance(caught_exception, ConnectionError | HTTPClientError)
        passing = unreachable and not isinstance(caught_exception, SSLError)
    else:
        http, parsed = response
        code = str(parsed.get("Error", {}).get("Code"))
        passing = code in _PASSING or http.status_code in _PASSING_STATUS
    if not passing:
        _given_up.clear()
        return None
    started = request_dict["context"].get(_STARTED, time.monotonic())
    wait = min(_LONGEST_WAIT, 0.2 * 2.0**attempts) * random.uniform(0.5, 1)
    if time.monotonic() - started + wait > REPEATED_FOR:
        _given_up.set()
    return None if _given_up.is_set() else wait


def with_reason(error: Exception, client: Any, bucket: str, key: str) -> Exception:
    """The error of a failed request, or of a GET in its place if it was a HEAD.

    The answer to a HEAD request has no body, so it does not say why a request is refused.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    if not isinstance(error, ClientError) or error.operation_name != "HeadObject" or not key:
        return error
    try:
        client.get_object(Bucket=bucket, Key=key, Range="bytes=0-0")
    except ClientError as told:
        if str(told.response.get("Error", {}).get("Code")) in _EXPLAINED:
            return told
    except BotoCoreError:
        pass
    return error


def explained(error: Exception, bucket: str) -> str:
    """What a failed request means, in one line, and how to mend it."""
    from botocore.exceptions import (
        ClientError,
        ConnectionError,
        HTTPClientError,
        NoCredentialsError,
        PartialCredentialsError,
    )

    text = " ".join(str(error).split())
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return f"no credentials for S3; {_CREDENTIALS}"
    if isinstance(error, ConnectionError | HTTPClientError):
        return _unreachable(text)
    if isinstance(error, ClientError):
        meaning = _EXPLAINED.get(str(error.response.get("Error", {}).get("Code")))
        if meaning is not None:
            return meaning.format(bucket=bucket, operation=error.operation_name)
    return text


def is_from_s3(error: Exception) -> bool:
    """Whether an error of pyarrow says that a request to S3 failed."""
    return _ARROW.search(" ".join(str(error).split())) is not None


def explained_arrow(error: Exception, bucket: str) -> str:
    """What a request of pyarrow that failed means, in one line, and how to mend it."""
    text = " ".join(str(error).split())
    found = _ARROW.search(text)
    if found is None:
        return text
    if found["kind"] == "NETWORK_CONNECTION":
        return _unreachable(found["text"].partition("; Details")[0])
    meaning = _EXPLAINED.get(found["code"] or found["status"])
    if meaning is None:
        return found[0]
    return meaning.format(bucket=bucket, operation=found["operation"])


def _unreachable(reason: str) -> str:
    return f"S3 cannot be reached ({reason}); look at AWS_ENDPOINT_URL and the network"
