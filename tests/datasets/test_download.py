"""The download against a server of our own: good, cut, changed, absent."""

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sparkrec.datasets import download
from sparkrec.datasets.download import Archive, fetch
from sparkrec.errors import DataError, StorageError


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    folder = tmp_path / "site"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def packed(ratings: str = "1::2::3::4\n1::3::3::5\n") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("ml-1m/ratings.dat", ratings)
    return buffer.getvalue()


def archives(content: bytes) -> dict[str, Archive]:
    return {"ml-1m": Archive("none", hashlib.md5(content).hexdigest(), {"ratings.dat": 2})}


def test_fetch_once(site: tuple[Path, str], tmp_path: Path) -> None:
    content = packed()
    (site[0] / "ml-1m.zip").write_bytes(content)
    target = tmp_path / "data"
    assert fetch("ml-1m", str(target), f"{site[1]}ml-1m.zip", archives(content)) == target / "ml-1m"
    assert (target / "ml-1m" / "ratings.dat").read_text().startswith("1::2")
    assert [path.name for path in target.iterdir()] == ["ml-1m"]
    (site[0] / "ml-1m.zip").unlink()
    assert fetch("ml-1m", str(target), f"{site[1]}ml-1m.zip", archives(content)) == target / "ml-1m"
    (target / "ml-1m" / "ratings.dat").write_text("short\n")
    with pytest.raises(StorageError, match=r"its ratings\.dat has 1 lines, not 2; remove it"):
        fetch("ml-1m", str(target), f"{site[1]}ml-1m.zip", archives(content))


def test_what_is_not_the_published_archive(site: tuple[Path, str], tmp_path: Path) -> None:
    content, target = packed(), tmp_path / "data"
    (site[0] / "ml-1m.zip").write_bytes(content + b"?")
    with pytest.raises(DataError, match=r"has MD5 .* but the published archive has"):
        fetch("ml-1m", str(target), f"{site[1]}ml-1m.zip", archives(content))
    content = packed("one line\n")
    (site[0] / "ml-1m.zip").write_bytes(content)
    with pytest.raises(DataError, match="has 1 lines, not 2"):
        fetch("ml-1m", str(target), f"{site[1]}ml-1m.zip", archives(content))
    (site[0] / "ml-1m.zip").write_bytes(b"<html>")
    with pytest.raises(DataError, match="is not a zip file"):
        fetch("ml-1m", str(target), f"{site[1]}ml-1m.zip", archives(b"<html>"))
    assert list(target.iterdir()) == []


def test_files_without_a_folder_and_without_an_md5(site: tuple[Path, str], tmp_path: Path) -> None:
    """As the archive of RSC15 is."""
    with zipfile.ZipFile(site[0] / "clicks.zip", "w") as archive:
        archive.writestr("clicks.dat", "1,2\n1,3\n")
        archive.writestr("more/README", "hello")
    known = {"rsc15": Archive(f"{site[1]}clicks.zip", None, {"clicks.dat": 2})}
    target = fetch("rsc15", str(tmp_path / "data"), archives=known)
    assert (target / "clicks.dat").read_text() == "1,2\n1,3\n"
    fewer = {"rsc15": Archive(f"{site[1]}clicks.zip", None, {"clicks.dat": 3})}
    with pytest.raises(DataError, match="has 2 lines, not 3"):
        fetch("rsc15", str(tmp_path / "other"), archives=fewer)
    with pytest.raises(DataError, match=r"it holds no buys\.dat"):
        fetch(
            "rsc15",
            str(tmp_path / "other"),
            archives={"rsc15": Archive(f"{site[1]}clicks.zip", None, {"buys.dat": 3})},
        )


def test_no_network(site: tuple[Path, str], tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="HTTP 404"):
        fetch("ml-1m", str(tmp_path / "data"), f"{site[1]}ml-1m.zip")
    with pytest.raises(StorageError, match=r"is there a network .* unpack it to .*data/ml-1m$"):
        fetch("ml-1m", str(tmp_path / "data"), "http://127.0.0.1:9/")


def test_command(
    site: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = packed()
    (site[0] / "ml-1m.zip").write_bytes(content)
    arguments = ["ml-1m", str(tmp_path / "data"), "--url", f"{site[1]}ml-1m.zip"]
    with pytest.raises(SystemExit) as exited:
        download.main(arguments)
    assert exited.value.code == 1
    assert capsys.readouterr().err.startswith("error: http://127.0.0.1")
    monkeypatch.setattr(download, "ARCHIVES", archives(content))
    download.main(arguments)
    assert capsys.readouterr().out == f"{tmp_path / 'data' / 'ml-1m'}\n"
