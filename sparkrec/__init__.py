"""sparkrec: Spark-native candidate retrieval, from interaction logs to recommendations."""

__version__ = "0.1.0"
