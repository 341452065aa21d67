"""What others report for the same data and protocol, to stand beside our own figures."""

from typing import NamedTuple


class Published(NamedTuple):
    """Figures at 20, seen items kept.

    Attributes
    ----------
    recall, second
        recall@20, and NDCG@20 (`session_next`: MRR@20).
    protocol
        The protocol that they belong to.
    """

    recall: float
    second: float
    protocol: str = "last_3"


# By the name of our conf that makes the same model.
PUBLISHED = {
    # MetaSpore. Their ALS is Global Hot's figure within .0004: it says more of how it was evaluated
    # than of ALS.
    "global_hot_ml_1m": Published(0.0495, 0.0173),
    "als_ml_1m": Published(0.0494, 0.0177),
    "swing_ml_1m": Published(0.1267, 0.0505),
    "item_cf_ml_1m": Published(0.1877, 0.0805),
    "dssm_bce_neg10_ml_1m": Published(0.2155, 0.0800),
    "dssm_bce_neg100_ml_1m": Published(0.2263, 0.0859),
    "dssm_batch_neg_ml_1m": Published(0.3016, 0.1261),
    "hrm_bce_neg10_ml_1m": Published(0.2096, 0.0775),
    "gru4rec_batch_neg_bpr_ml_1m": Published(0.1719, 0.0640),
    # GRU4Rec's own PyTorch code, measured on the same files.
    "gru4rec_xe_rsc15": Published(0.682, 0.359, "session_next"),
    "gru4rec_bprmax_rsc15": Published(0.689, 0.364, "session_next"),
}
