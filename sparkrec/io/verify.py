"""Compares published outputs with their manifests, down to the content.

``python -m sparkrec.io.verify PATH`` looks at every finished version at and below PATH, and at all
its parts: names and sizes of files, the hash of each file of a model, and the hash of all rows of a
table, for which it starts Spark. It prints a line for each, and exits with 1 if one is damaged.
"""

import argparse
import sys
from collections.abc import Iterator

from sparkrec.errors import SparkrecError, StorageError
from sparkrec.io import storage
from sparkrec.io.outputs import MANIFEST, Published, check_hashes, open_output, resolve


def manifests(path: str) -> list[str]:
    """The folders at and below a path, or a part of an output, that have a manifest."""
    folder = path if storage.exists(path) else resolve(path)
    if not storage.exists(folder):
        raise StorageError(f"no such path: {path}")
    names = [file.name for file in storage.list_files(folder)]
    found = [name for name in names if storage.name_of(name) == MANIFEST]
    return [storage.join(folder, name.removesuffix(MANIFEST)).rstrip("/") for name in found]


def verify(path: str) -> Iterator[tuple[str, str | None]]:
    """Check all published folders at and below a path.

    Yields
    ------
    folder, fault
        The fault is None where all is as it was written.

    Raises
    ------
    StorageError
        There is no such path, or nothing is published there.
    """
    folders = manifests(path)
    if not folders:
        raise StorageError(f"nothing is published at or below {path}")
    for folder in folders:
        try:
            published = open_output(folder)
            check_hashes(published)
            _check_rows(published)
        except SparkrecError as error:
            yield folder, str(error)
        else:
            yield folder, None


def _check_rows(published: Published) -> None:
    """Raise StorageError unless a table has the rows that were written."""
    manifest = published.manifest
    if "content" not in manifest:
        return
    from sparkrec.io.tables import content_hash, read_published
    from sparkrec.session import open_session

    paths = [published.folder]
    spark = open_session("sparkrec verify", {"spark.ui.enabled": "false"}, paths)
    rows, content = content_hash(read_published(spark, published, published.folder)[0])
    if (rows, content) != (manifest["rows"], manifest["content"]):
        raise StorageError(
            f"{published.folder} has {rows:,} rows with the hash {content}; {manifest['rows']:,} "
            f"with the hash {manifest['content']} were written"
        )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m sparkrec.io.verify", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("path", metavar="PATH", help="an output, or a folder with outputs")
    options = parser.parse_args()
    damaged = 0
    try:
        for folder, fault in verify(options.path):
            damaged += fault is not None
            print(f"{'ok     ' if fault is None else 'DAMAGED'} {folder}")
            if fault is not None:
                print(f"        {fault}")
    except StorageError as error:
        sys.exit(f"error: {error}")
    if damaged:
        sys.exit(f"error: {damaged} of the published folders are damaged")


if __name__ == "__main__":
    main()
