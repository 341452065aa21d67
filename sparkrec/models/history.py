"""What the models have in common that see a user as a bag of recent items and an own embedding."""

from typing import Any

from torch import Tensor

from sparkrec.models.two_tower import Reads, TowerInput, TwoTowerNetwork
from sparkrec.nn.embedding import PooledEmbedding
from sparkrec.nn.items import ItemTable

# Beside the items of a history a user's own embedding begins this short: until train has said
# something about a user the history speaks alone, where vectors of one length would drown it.
_FIRST_USERS = 0.05


class HistoryNetwork(TwoTowerNetwork):
    """Base of SimpleX and HRM, which know items by their dense index.

    With `constrained` the items of a history and those that are found have one embedding.
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
        """User-side rows to the histories [batch, length], 0 behind the last item, and the vectors
        of the other features [batch, features, dim]; zeros where nothing is known."""
        history, others = features.tensor_split([self.history_length], dim=1)
        return history, self.user_embedding.separate(others)

    def mean_of_items(self, history: Tensor) -> Tensor:
        """The mean of the embeddings of a history's items, [batch, dim]; zeros without items."""
        count = (history != 0).sum(dim=1, keepdim=True)
        return self.items.total(history) / count.clamp(min=1)

    @property
    def found_items(self) -> ItemTable:
        """The table of the vectors by which items are found."""
        return self.items if self.constrained else self.output
