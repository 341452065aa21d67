"""An interpreter as executors have it: with the packages that sparkrec needs, but not sparkrec."""

import subprocess
import sysconfig
import venv
from pathlib import Path
from subprocess import PIPE

import pytest


def python_without_sparkrec(folder: Path) -> str:
    """An interpreter that has the packages of this one, but cannot import sparkrec."""
    venv.create(folder, with_pip=False)
    (packages,) = folder.glob("lib/python*/site-packages")
    # A .pth file of the packages' folder, such as that of an editable sparkrec, is not read there.
    (packages / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = str(folder / "bin" / "python")
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run([python, "-c", "import sparkrec"], check=True, cwd=folder, stderr=PIPE)
    return python
