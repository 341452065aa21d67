"""Answering queries with a saved model in one process, with NumPy and Torch alone.

``load(path).answer([[1193, 661]])`` needs no Spark, and nothing of training.
"""

from sparkrec.retrieval.answering.answerer import Answerer, load

__all__ = ["Answerer", "load"]
