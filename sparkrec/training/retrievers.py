"""The Estimator classes of the built-in networks, and of any other network.

`DSSM().explainParams()` lists the params of a class. `fit` returns a
`retrieval.two_tower.TwoTowerModel`.
"""

from sparkrec.models import dssm, gru4rec, hrm, sasrec, simplex, ssr
from sparkrec.models.sequence import SequenceNetwork
from sparkrec.models.two_tower import TwoTowerNetwork
from sparkrec.training.estimator import TwoTowerRetriever
from sparkrec.training.sequences import SequenceRetriever


class DSSM(TwoTowerRetriever):
    """Trains `models.dssm.DSSM`; see `TwoTowerRetriever` for what it takes."""

    network_class = dssm.DSSM


class SimpleX(TwoTowerRetriever):
    """Trains `models.simplex.SimpleX`; see `TwoTowerRetriever` for what it takes."""

    network_class = simplex.SimpleX


class HRM(TwoTowerRetriever):
    """Trains `models.hrm.HRM`; see `TwoTowerRetriever` for what it takes."""

    network_class = hrm.HRM


class GRU4Rec(SequenceRetriever):
    """Trains `models.gru4rec.GRU4Rec`; see `SequenceRetriever` for what it takes."""

    network_class = gru4rec.GRU4Rec


class SASRec(SequenceRetriever):
    """Trains `models.sasrec.SASRec`; see `SequenceRetriever` for what it takes."""

    network_class = sasrec.SASRec


class SSR(SequenceRetriever):
    """Trains `models.ssr.SSR`; see `SequenceRetriever` for what it takes."""

    network_class = ssr.SSR


_KNOWN: dict[type[TwoTowerNetwork], type[TwoTowerRetriever]] = {
    retriever.network_class: retriever for retriever in (DSSM, SimpleX, HRM, GRU4Rec, SASRec, SSR)
}


def retriever_of(network: type[TwoTowerNetwork]) -> type[TwoTowerRetriever]:
    """The Estimator class of a network: one of the above, or a new class for any other network.

    It is always the same class for the same network.
    """
    if network not in _KNOWN:
        base = SequenceRetriever if issubclass(network, SequenceNetwork) else TwoTowerRetriever
        members = {"network_class": network, "__module__": network.__module__}
        _KNOWN[network] = type(network.__name__, (base,), {**members, "__doc__": base.__doc__})
    return _KNOWN[network]
