"""MetaSpore's published figures on MovieLens 1M, to stand beside our own."""

from typing import NamedTuple


class Published(NamedTuple):
    """Figures at 20, protocol `last_3`, seen items kept."""

    recall: float
    ndcg: float


PUBLISHED_PROTOCOL = "last_3"

# By the name of our conf that makes the same model. Their ALS is Global Hot's figure within .0004:
# it says more of how it was evaluated than of ALS.
PUBLISHED = {
    "global_hot_ml_1m": Published(0.0495, 0.0173),
    "als_ml_1m": Published(0.0494, 0.0177),
    "swing_ml_1m": Published(0.1267, 0.0505),
    "item_cf_ml_1m": Published(0.1877, 0.0805),
    "dssm_bce_neg10_ml_1m": Published(0.2155, 0.0800),
    "dssm_bce_neg100_ml_1m": Published(0.2263, 0.0859),
    "dssm_batch_neg_ml_1m": Published(0.3016, 0.1261),
    "hrm_bce_neg10_ml_1m": Published(0.2096, 0.0775),
    "gru4rec_batch_neg_bpr_ml_1m": Published(0.1719, 0.0640),
}
