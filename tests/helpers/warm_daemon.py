"""PySpark's daemon with sparkrec and its libraries loaded: its workers are forked with them.

Otherwise each worker loads them, which takes seconds, and a worker whose task fails is not used
again. What is loaded is also kept out of the garbage collection that follows every task.
"""

import gc
import importlib
import os
import pkgutil

# A fork would lose the threads of its parent.
os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"

import pandas  # noqa: F401
import pyspark.worker  # noqa: F401
from pyspark.daemon import manager

import sparkrec

for module in pkgutil.walk_packages(sparkrec.__path__, "sparkrec."):
    importlib.import_module(module.name)

if __name__ == "__main__":
    gc.collect()
    gc.freeze()
    manager()
