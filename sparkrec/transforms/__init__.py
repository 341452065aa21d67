"""Functions from table to table on Spark: sessions, history, splits, filters, negatives."""

from sparkrec.transforms._common import tail
from sparkrec.transforms.filters import Core, date_range, k_core, positives
from sparkrec.transforms.history import add_history
from sparkrec.transforms.negatives import negatives_shortfall, sample_negatives
from sparkrec.transforms.split import Split, last_basket, last_n, leave_one_out, temporal

__all__ = [
    "Core",
    "Split",
    "add_history",
    "date_range",
    "k_core",
    "last_basket",
    "last_n",
    "leave_one_out",
    "negatives_shortfall",
    "positives",
    "sample_negatives",
    "tail",
    "temporal",
]
