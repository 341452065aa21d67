"""PySpark's daemon with the heavy libraries loaded: its workers are forked with them.

A worker would load them by itself, which takes seconds, and a worker whose task fails is not used
again. pandas and pyarrow are left to the workers: they start threads, which a fork would lose.
"""

import faiss  # noqa: F401
import numba  # noqa: F401
import torch  # noqa: F401
from pyspark.daemon import manager

if __name__ == "__main__":
    manager()
