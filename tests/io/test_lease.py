"""One writer at a time: who holds a lease, when it is dead, and what a late writer is told."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sparkrec.errors import StorageError
from sparkrec.io import lease, storage
from sparkrec.io.lease import LEASE, hold
from sparkrec.io.outputs import open_output
from sparkrec.io.publishing import publish
from sparkrec.io.s3 import get_stored, locate, put_if

REPO = Path(__file__).parents[2]

HOLDER = """
import sys, time
from sparkrec.io.lease import hold
with hold(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(place: str) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds the lease of `out`."""
    command = [sys.executable, "-c", HOLDER, storage.join(place, "out")]
    process = subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_writer_fails_at_once(place: str, holder: "subprocess.Popen[str]") -> None:
    start = time.monotonic()
    message = rf"out is being written by process {holder.pid} on .* \(since 20.* UTC\); wait"
    with pytest.raises(StorageError, match=message), hold(storage.join(place, "out")):
        pytest.fail("two hold it")
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("reaped", [True, False])
def test_a_killed_process_holds_nothing(
    place: str, holder: "subprocess.Popen[str]", reaped: bool
) -> None:
    holder.kill()
    if reaped:
        holder.wait()
    else:
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    with hold(storage.join(place, "out")) as held:
        assert held.owner["pid"] == os.getpid()


def replace(place: str, **changes: object) -> None:
    file = storage.join(place, "out", LEASE)
    storage.write_json(file, {**storage.read_json(file), **changes})


def wait_until_expired(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for longer than a lease lasts; S3 knows the age of an object in whole seconds."""
    lasts = 1.0 if storage.is_s3(place) else 0.2
    monkeypatch.setattr(lease, "EXPIRES_AFTER", lasts)
    time.sleep(2.1 * lasts)


def test_the_number_of_a_dead_process_may_be_anothers(
    place: str, holder: "subprocess.Popen[str]"
) -> None:
    replace(place, started=1.0)
    with hold(storage.join(place, "out")):
        pass


def test_a_process_elsewhere_is_dead_when_it_is_silent(
    place: str, holder: "subprocess.Popen[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    path = storage.join(place, "out")
    replace(place, host="elsewhere", pid=1)
    with pytest.raises(StorageError, match="process 1 on elsewhere"), hold(path):
        pytest.fail("two hold it")
    wait_until_expired(place, monkeypatch)
    with hold(path):
        pass


def test_a_lease_is_renewed(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = storage.join(place, "out")
    second = 1.0 if storage.is_s3(place) else 0.3
    monkeypatch.setattr(lease, "RENEWED_EVERY", second / 5)
    with hold(path):
        replace(place, host="elsewhere")
        monkeypatch.setattr(lease, "EXPIRES_AFTER", 2 * second)
        time.sleep(3.5 * second)
        with pytest.raises(StorageError, match="is being written"), hold(path):
            pytest.fail("two hold it")


def test_a_writer_that_lost_its_lease_publishes_nothing(place: str) -> None:
    path = storage.join(place, "out")
    with publish(path, "job") as folder:
        storage.write_bytes(storage.join(folder, "x"), b"old")
    message = r"taken over by process 7 on .*nothing was published"
    with pytest.raises(StorageError, match=message), publish(path, "job") as folder:
        storage.write_bytes(storage.join(folder, "x"), b"new")
        replace(place, id="another", pid=7)
    assert storage.read_bytes(open_output(path).path("x")) == b"old"
    assert storage.read_json(storage.join(path, LEASE))["id"] == "another"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null"])
def test_a_damaged_lease_expires(
    place: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = storage.join(place, "out")
    storage.write_bytes(storage.join(path, LEASE), content)
    wait_until_expired(place, monkeypatch)
    with hold(path):
        pass
    assert not storage.exists(path)


RACER = """
import json, sys, time
from pathlib import Path
from sparkrec.errors import StorageError
from sparkrec.io import storage
from sparkrec.io.publishing import publish
path, number, start = sys.argv[1], sys.argv[2], float(sys.argv[3])
won = 0
time.sleep(max(0, start - time.time()))
for turn in range(int(sys.argv[4])):
    try:
        with publish(path, "job") as folder:
            for part in range(4):
                storage.write_bytes(f"{folder}/{part}", f"{number} {turn}".encode())
        won += 1
    except StorageError as error:
        assert "is being written by process" in str(error), error
print(json.dumps(won))
"""


def test_racing_writers_publish_whole_outputs(place: str) -> None:
    path = storage.join(place, "out")
    turns = "5" if storage.is_s3(place) else "30"
    start = str(time.time() + 3)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, path, str(number), start, turns],
            cwd=REPO,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    outputs = [racer.communicate(timeout=120)[0] for racer in racers]
    assert all(racer.returncode == 0 for racer in racers)
    assert sum(json.loads(output) for output in outputs) >= 1
    published = open_output(path)
    contents = {storage.read_bytes(published.path(str(part))) for part in range(4)}
    assert len(contents) == 1
    assert not published.has_other_files


@pytest.mark.slow
def test_a_store_that_compares_etags_with_their_quotes(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As some versions of Ceph's gateway do: an etag in quotes is never that of the object."""
    client, bucket, _ = locate(s3)
    put_object, get_object = client.put_object, client.get_object
    puts = []

    def put(**request: Any) -> Any:
        wanted = request.pop("IfMatch", None)
        puts.append(wanted)
        if wanted is not None:
            etag = get_object(Bucket=bucket, Key=request["Key"])["ETag"].strip('"')
            if wanted != etag:
                answer = {"Error": {"Code": "412"}, "ResponseMetadata": {"HTTPStatusCode": 412}}
                raise ClientError(answer, "PutObject")
        return put_object(**request)

    monkeypatch.setattr(client, "put_object", put)
    path = f"{s3}/x.json"
    assert put_if(path, b"1", None)
    first = get_stored(path)
    assert first is not None and first.etag.startswith('"')
    assert put_if(path, b"2", first.etag)
    assert puts == [None, first.etag, first.etag.strip('"')]
    # The etag of an older version is not tried a second time.
    assert not put_if(path, b"3", first.etag)
    assert len(puts) == 4
    found = get_stored(path)
    assert found is not None and found.content == b"2"
