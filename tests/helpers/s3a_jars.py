"""Fetches hadoop-aws 3.3.1 and its AWS SDK from a package of PyPI, for tests of S3A.

Jobs need the hadoop-aws of Spark's own Hadoop version, which is on Maven and not on PyPI.
"""

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "sagemaker-pyspark==1.4.5"
JARS = ("hadoop-aws-3.3.1.jar", "aws-java-sdk-bundle-1.11.901.jar")


def jars_of_s3a() -> str:
    """The jars in the folder that SPARKREC_S3A_JARS names, as `spark.jars` wants them."""
    folder = os.environ.get("SPARKREC_S3A_JARS")
    return ",".join(sorted(map(str, Path(folder).glob("*.jar")))) if folder else ""


def fetch(folder: Path) -> None:
    """Download the package, and move its two jars into a new folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", place]
        subprocess.run([*pip, PACKAGE], check=True)
        (package,) = Path(place).glob("*.tar.gz")
        found = Path(place) / "jars"
        found.mkdir()
        with tarfile.open(package) as archive:
            for member in archive:
                name = Path(member.name).name
                if name in JARS:
                    content = archive.extractfile(member)
                    assert content is not None
                    (found / name).write_bytes(content.read())
        missing = [name for name in JARS if not (found / name).is_file()]
        if missing:
            raise SystemExit(f"{PACKAGE} does not have {', '.join(missing)}")
        found.rename(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    fetch(parser.parse_args().folder)
