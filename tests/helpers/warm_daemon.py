"""PySpark's daemon with sparkrec and its libraries loaded: its workers are forked with them.

Otherwise each worker loads them, which takes seconds, and a worker whose task fails is not used
again. What is loaded is also kept out of the garbage collection that follows every task.
"""

import gc
import importlib
import os
import pkgutil
import sys

# A fork would lose the threads of its parent.
os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"
# PySpark as it is installed: the copy in Spark's zip files would be compiled from its sources, and
# these files be opened again for every task.
sys.path[:] = [folder for folder in sys.path if not folder.endswith(".zip")]

import pandas  # noqa: E402, F401
import pyspark.worker  # noqa: E402, F401
from pyspark.daemon import manager  # noqa: E402

import sparkrec  # noqa: E402

for module in pkgutil.walk_packages(sparkrec.__path__, "sparkrec."):
    importlib.import_module(module.name)

if __name__ == "__main__":
    gc.collect()
    gc.freeze()
    manager()
