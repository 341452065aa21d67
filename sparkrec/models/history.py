"""What the models have in common that see a user as a bag of recent items and an own embedding."""

from torch import Tensor, nn

from sparkrec.models.two_tower import TowerInput
from sparkrec.nn.embedding import ItemTable, PooledEmbedding

# Beside the items of a history a user's own embedding begins this short: until train has said
# something about a user the history speaks alone, where vectors of one length would drown it.
_FIRST_USERS = 0.05


class HistoryNetwork(nn.Module):
    """Base of SimpleX and HRM, which know items by their dense index.

    With `constrained` the items of a history and those that are found have one embedding.
    """

    def __init__(self, user: TowerInput, item: TowerInput, dim: int, constrained: bool) -> None:
        super().__init__()
        self.history_length, self.constrained = user.dense, constrained
        std = _FIRST_USERS * dim**-0.5
        self.user_embedding = PooledEmbedding(user.num_rows, dim, user.slices, std=std)
        self.items = ItemTable(item.num_items, dim, dim**-0.5, sparse=True)
        if not constrained:
            self.output = ItemTable(item.num_items, dim, dim**-0.5, sparse=True)

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
