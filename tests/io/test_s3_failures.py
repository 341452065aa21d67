"""When S3 fails: requests are repeated for a while, and then there is one line."""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, NoCredentialsError
from s3_gate import Gate

from sparkrec.errors import StorageError
from sparkrec.io import s3, s3_failures, storage
from sparkrec.read_errors import explain


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3_failures._given_up.clear()
    s3._client.cache_clear()
    yield
    s3._client.cache_clear()
    s3_failures._given_up.clear()


@pytest.mark.parametrize("failures", [0, 3])
def test_answers_with_503_are_waited_out(monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
    tries: list[str] = []

    class Busy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tries.append(self.path)
            self.send_response(503 if len(tries) <= failures else 200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"data")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Busy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    assert storage.read_bytes("s3://bucket/key") == b"data"
    assert tries == ["/bucket/key"] * (failures + 1)
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("listening", [False, True])
def test_an_endpoint_that_is_not_there_or_never_answers(
    monkeypatch: pytest.MonkeyPatch, listening: bool
) -> None:
    monkeypatch.setattr(s3_failures, "REPEATED_FOR", 2.0)
    monkeypatch.setattr(s3, "READ_TIMEOUT", 1)
    start = time.monotonic()
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listening:
            server.listen(20)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        message = r"^s3://bucket/key: S3 cannot be reached \(.*\); look at AWS_ENDPOINT_URL"
        with pytest.raises(StorageError, match=message):
            storage.read_bytes("s3://bucket/key")
    assert 0.5 < time.monotonic() - start < 10


def refusing(status: int, body: bytes) -> type[BaseHTTPRequestHandler]:
    """A server that refuses every request, and says why wherever an answer may have a body."""

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    return Refusing


@pytest.mark.parametrize(
    ("status", "code", "line"),
    [
        (400, "ExpiredToken", "the session token has expired; get new credentials, and run the"),
        (400, "", "S3 answered 400 without a reason; if the credentials have a session token, it"),
        (400, "Unheard", "S3 answered 400 without a reason; if the credentials have a session"),
        (403, "SignatureDoesNotMatch", "the secret key does not fit the access key; set AWS_"),
        (403, "AccessDenied", "the credentials do not allow GetObject here; change the policy"),
    ],
)
def test_the_reason_of_a_refused_head_request(
    monkeypatch: pytest.MonkeyPatch, status: int, code: str, line: str
) -> None:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>" if code else ""
    server = ThreadingHTTPServer(("127.0.0.1", 0), refusing(status, body.encode()))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    with pytest.raises(StorageError) as caught:
        storage.is_file("s3://events/x")
    assert str(caught.value).startswith(f"s3://events/x: {line}")
    # The same through pyarrow, whose errors go through Spark or come from a training process.
    with pytest.raises(OSError, match="AWS Error") as read:
        s3.arrow_filesystem().open_input_file("events/x").read()
    told = explain(read.value)
    assert told is not None and "s3://events/x: " in told
    if status == 400:
        assert "get new credentials, and run the job again" in told
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("NoSuchBucket", "there is no bucket `events`; make it"),
        ("InvalidAccessKeyId", "the access key is unknown to the store; set AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", "the secret key does not fit the access key"),
        ("ExpiredToken", "the session token has expired; .* training.resume: true"),
        (
            "400",
            "S3 answered 400 without a reason; if the credentials have a session token, it has",
        ),
        ("403", "the credentials do not allow PutObject here; change the policy"),
        ("Other", "An error occurred"),
    ],
)
def test_errors_are_explained(code: str, line: str) -> None:
    error = ClientError({"Error": {"Code": code, "Message": "text"}}, "PutObject")
    with pytest.raises(StorageError, match=rf"^s3://events/x: {line}"), s3.errors("s3://events/x"):
        raise error


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "When reading information for key 'x' in bucket 'events': AWS Error NETWORK_CONNECTION "
            "during HeadObject operation: curlCode: 7, Could not connect to server; Details: ...",
            r"S3 cannot be reached \(curlCode: 7, Could not connect to server\); look at AWS_ENDPO",
        ),
        (
            "When reading information for key 'x' in bucket 'events': AWS Error UNKNOWN (HTTP "
            "status 400) during HeadObject operation: No response body.",
            "S3 answered 400 without a reason; .* it has probably expired: get new credentials",
        ),
        (
            "AWS Error UNKNOWN (HTTP status 400) during ListObjectsV2 operation: Unable to parse "
            "ExceptionName: ExpiredToken Message: The provided token has expired.",
            "the session token has expired; get new credentials",
        ),
        ("AWS Error SLOW_DOWN during GetObject operation: no", "AWS Error SLOW_DOWN during GetOb"),
    ],
)
def test_errors_of_pyarrow_are_explained(text: str, line: str) -> None:
    with (
        pytest.raises(StorageError, match=rf"^s3://events/x: {line}"),
        s3.arrow_errors("s3://events/x"),
    ):
        raise OSError(text)
    with pytest.raises(FileNotFoundError), s3.arrow_errors("s3://events/x"):
        raise FileNotFoundError("x")


def test_no_credentials() -> None:
    message = "^s3://events/x: no credentials for S3; set AWS_ACCESS_KEY_ID"
    with pytest.raises(StorageError, match=message), s3.errors("s3://events/x"):
        raise NoCredentialsError


@pytest.mark.slow
def test_training_processes_outlast_an_outage(s3_endpoint: str, monkeypatch: Any) -> None:
    """They read with pyarrow, which repeats requests by itself."""
    with Gate(int(s3_endpoint.rpartition(":")[2])) as gate:
        monkeypatch.setenv("AWS_ENDPOINT_URL", gate.url)
        storage.write_bytes("s3://test/outage", b"data")
        fault = gate.when("GET /test/outage", "refuse", seconds=8)
        with s3.arrow_filesystem().open_input_stream("test/outage") as file:
            assert file.read() == b"data"
        assert fault.came.is_set()


def test_once_s3_is_given_up_requests_are_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_failures, "REPEATED_FOR", 2.0)
    seconds = []
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        for _ in range(2):
            start = time.monotonic()
            with pytest.raises(StorageError, match="cannot be reached"):
                storage.read_bytes("s3://bucket/key")
            seconds.append(time.monotonic() - start)
    assert seconds[0] > 0.5 and seconds[1] < 0.15, seconds
    answered: dict[str, object] = {"Error": {"Code": "NoSuchKey"}}
    http = SimpleNamespace(status_code=404)
    s3_failures._wait_before_repeating((http, answered), 1, None, {"context": {}})
    # Now that there was an answer, S3 is waited for again.
    start = time.monotonic()
    with pytest.raises(StorageError, match="cannot be reached"):
        storage.read_bytes("s3://bucket/key")
    assert time.monotonic() - start > 0.5
