"""Leases: an output has one writer at a time, on a local disk and on S3 alike.

The writer keeps a small file in the folder of the output, with who it is. It renews the file every
few seconds. A second writer that finds the lease of a living one fails at once. A lease is dead if
its process is shown to be gone, or if it was not renewed for `EXPIRES_AFTER` seconds; the next
writer takes it over.

On a local disk the file is changed under a lock of the operating system. On S3 it is changed by
conditional writes; a store without them is read again after the write.
"""

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from sparkrec.errors import StorageError
from sparkrec.io import s3, storage

LEASE = "_sparkrec.lease.json"
RENEWED_EVERY = 10.0
EXPIRES_AFTER = 60.0


@dataclass(frozen=True)
class Lease:
    """A lease that this process holds.

    Attributes
    ----------
    path
        The output.
    owner
        Who holds it: a random `id`, and the process that can be looked for.
    """

    path: str
    owner: dict[str, Any]

    def while_held(self, act: Callable[[], None]) -> None:
        """Do something that only the holder may do, after a look whether it still is the holder.

        Raises
        ------
        StorageError
            Another writer took the lease over, because it was not renewed in time.
        """
        store = _store(self.path)
        with store.locked():
            found, _ = store.read()
            if found is None or found.get("id") != self.owner["id"]:
                raise StorageError(
                    f"{self.path} was taken over by {_described(found)}, because this process did "
                    f"not renew its lease for {EXPIRES_AFTER:.0f} s; nothing was published"
                )
            act()

    def renew(self) -> None:
        """Show that the holder lives."""
        store = _store(self.path)
        with store.locked():
            found, version = store.read()
            if found is not None and found.get("id") == self.owner["id"]:
                store.renew(self.owner, version)


@contextmanager
def hold(path: str) -> Iterator[Lease]:
    """Hold the lease of an output; it is renewed in the background during the block.

    Raises
    ------
    StorageError
        Another writer holds it, or it cannot be written.
    """
    lease = Lease(path, {"id": uuid.uuid4().hex, "since": time.time(), **_this_process()})
    _take(lease)
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(RENEWED_EVERY):
            # A failure to renew shows when the output is about to be published.
            with contextlib.suppress(StorageError):
                lease.renew()

    thread = threading.Thread(target=renew, name="sparkrec-lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        ended.set()
        thread.join()
        _release(lease)


def _take(lease: Lease) -> None:
    store = _store(lease.path)
    with store.locked():
        found, version = store.read()
        if found is not None and not _is_dead(found, store.age()):
            raise StorageError(
                f"{lease.path} is being written by {_described(found)}; wait until it has ended, "
                "or choose another output_path"
            )
        store.write(lease.owner, version)
        found, _ = store.read()
    if found is None or found.get("id") != lease.owner["id"]:
        raise StorageError(
            f"{lease.path} is being written by {_described(found)}; wait until it has ended, or "
            "choose another output_path"
        )


def _release(lease: Lease) -> None:
    with contextlib.suppress(StorageError):
        store = _store(lease.path)
        with store.locked():
            found, _ = store.read()
            if found is not None and found.get("id") == lease.owner["id"]:
                store.remove()


def _this_process() -> dict[str, Any]:
    process = psutil.Process()
    return {
        "host": socket.gethostname(),
        "boot": _boot_id(),
        "pid": process.pid,
        "started": process.create_time(),
    }


def _boot_id() -> str:
    """What names this boot of this machine and, in a container, its process numbers."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"{psutil.boot_time():.0f}"


def _is_dead(owner: dict[str, Any], age: float) -> bool:
    here = _this_process()
    if age > EXPIRES_AFTER:
        return True
    if owner.get("host") != here["host"] or owner.get("boot") != here["boot"]:
        return False
    try:
        process = psutil.Process(int(owner["pid"]))
        started = process.create_time()
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
        return abs(started - float(owner["started"])) > 1
    except psutil.NoSuchProcess:
        return True
    except (KeyError, ValueError, TypeError, psutil.Error):
        return False


def _described(owner: dict[str, Any] | None) -> str:
    if not owner:
        return "another process"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(float(owner.get("since", 0))))
    return f"process {owner.get('pid')} on {owner.get('host')} (since {since} UTC)"


class _LocalStore:
    def __init__(self, path: str) -> None:
        self._file = storage.local_path(path) / LEASE
        self._path = path
        self._descriptor = -1

    @contextmanager
    def locked(self) -> Iterator[None]:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            while True:
                descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                # Another process may have removed the file while this one waited.
                with contextlib.suppress(FileNotFoundError):
                    if self._file.stat().st_ino == os.fstat(descriptor).st_ino:
                        break
                os.close(descriptor)
        except OSError as error:
            raise StorageError(f"cannot write {self._path}: {error.strerror or error}") from None
        self._descriptor = descriptor
        try:
            yield
        finally:
            os.close(descriptor)

    def read(self) -> tuple[dict[str, Any] | None, str | None]:
        content = os.pread(self._descriptor, 65_536, 0)
        return (_parsed(content) if content else None), None

    def age(self) -> float:
        return time.time() - os.fstat(self._descriptor).st_mtime

    def write(self, owner: dict[str, Any], version: str | None) -> None:
        content = json.dumps(owner).encode()
        try:
            os.truncate(self._descriptor, 0)
            os.pwrite(self._descriptor, content, 0)
        except OSError as error:
            raise StorageError(f"cannot write {self._path}: {error.strerror or error}") from None

    def renew(self, owner: dict[str, Any], version: str | None) -> None:
        os.utime(self._descriptor)

    def remove(self) -> None:
        self._file.unlink()
        with contextlib.suppress(OSError):
            self._file.parent.rmdir()


class _S3Store:
    def __init__(self, path: str) -> None:
        self._object = storage.join(path, LEASE)
        self._age = 0.0

    @contextmanager
    def locked(self) -> Iterator[None]:
        yield

    def read(self) -> tuple[dict[str, Any] | None, str | None]:
        found = s3.get_stored(self._object)
        if found is None:
            return None, None
        self._age = found.age
        return _parsed(found.content), found.etag

    def age(self) -> float:
        return self._age

    def write(self, owner: dict[str, Any], version: str | None) -> None:
        # `beat` gives every renewal a version of its own.
        s3.put_if(self._object, json.dumps({**owner, "beat": uuid.uuid4().hex}).encode(), version)

    def renew(self, owner: dict[str, Any], version: str | None) -> None:
        self.write(owner, version)

    def remove(self) -> None:
        storage.remove(self._object)


def _store(path: str) -> _LocalStore | _S3Store:
    return _S3Store(path) if storage.is_s3(path) else _LocalStore(path)


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
