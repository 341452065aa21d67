"""Common base of the models that read a user's recent items as a bag, and a user embedding."""

from typing import Any

from torch import Tensor

from sparkrec.models.two_tower import Reads, TowerInput, TwoTowerNetwork
from sparkrec.nn.embedding import PooledEmbedding
from sparkrec.nn.items import ItemTable

# Initial length of a user embedding, relative to an item embedding. It is short so that the history
# decides the user vector until training has learned something about the user. An embedding of the
# same length as those of the items would be noise that is as strong as the history.
_FIRST_USERS = 0.05


class HistoryNetwork(TwoTowerNetwork):
    """Base of SimpleX and HRM, which represent an item by an embedding of its dense index.

    Parameters
    ----------
    user, item
        Shapes of both sides.
    dim
        Width of the embeddings.
    constrained
        Whether an item has the same embedding in a history and as a candidate.
    """

    def __init__(self, user: TowerInput, item: TowerInput, dim: int, constrained: bool) -> None:
        super().__init__()
        self.history_length, self.constrained = user.dense, constrained
        std = _FIRST_USERS * dim**-0.5
        self.user_embedding = PooledEmbedding(user.num_rows, dim, user.slices, std=std)
        self.items = item.item_encoder(dim, sparse=True)
        if not constrained:
            self.output = item.item_encoder(dim, sparse=True)

    @classmethod
    def reads(cls, config: Any) -> Reads:
        return Reads(
            history=config.max_len,
            item_features=False,
            default_features=("user", "recent_items"),
        )

    def split(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Split user-side rows into histories and vectors of the other features.

        Returns
        -------
        history, others
            [batch, length], dense item indices with padding (0) after the last; and
            [batch, features, dim], zeros where a feature has no known value.
        """
        history, others = features.tensor_split([self.history_length], dim=1)
        return history, self.user_embedding.separate(others)

    def mean_of_items(self, history: Tensor) -> Tensor:
        """Mean embedding of a history's items, [batch, dim]; zeros for an empty history."""
        count = (history != 0).sum(dim=1, keepdim=True)
        return self.items.total(history) / count.clamp(min=1)

    @property
    def found_items(self) -> ItemTable:
        """The table of the vectors of candidate items."""
        return self.items if self.constrained else self.output
