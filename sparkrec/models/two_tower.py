"""What every model whose score is an inner product is to training and to retrieval.

A network says what it is: `Config`, its typed settings, and `reads`, what it takes of a query and
of an item. Everything else (encoding, feed, loss, loop, checkpoints, index) follows from these.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from sparkrec.errors import ConfigError
from sparkrec.nn.items import ItemTable

Role = Literal["user", "last_item", "recent_items"]


@dataclass(frozen=True)
class Reads:
    """What a network takes of a query and of an item.

    Attributes
    ----------
    history
        Items of the query's history that are read by dense index, the last ones; 0 for a network
        to which the history is a declared feature like others.
    user_features
        Whether declared features of the user's side are read beside the history.
    item_features
        Whether items are known by their declared features; else by their id alone.
    default_features
        Roles of the columns that are the user's features where no schema declares any.
    """

    history: int = 0
    user_features: bool = True
    item_features: bool = True
    default_features: tuple[Role, ...] = ("user", "last_item", "recent_items")


@dataclass(frozen=True)
class TowerInput:
    """The columns of one side's features.

    Attributes
    ----------
    num_rows
        Rows of the side's embedding table, padding (0) and unknown (1) included.
    slices
        (start, stop) columns of each feature, counted behind the dense ones.
    dense
        Leading columns that hold items by dense index, where the model reads them: on the user's
        side the recent items, oldest first and 0 behind the last; on the item's side the item.
    num_items
        Rows of a table by dense index, padding (0) and unknown (1) included; 0 without `dense`.
    """

    num_rows: int
    slices: tuple[tuple[int, int], ...]
    dense: int = 0
    num_items: int = 0

    def item_encoder(
        self, dim: int, std: float | None = None, sparse: bool = False, bias: bool = False
    ) -> ItemTable:
        """What makes vectors of this side's items: here, of their ids.

        Parameters
        ----------
        dim
            Width of a vector.
        std
            Standard deviation of the first weights; 1 / sqrt(dim) by default.
        sparse, bias
            See `nn.embedding.ItemTable`.
        """
        return ItemTable(self.num_items, dim, dim**-0.5 if std is None else std, sparse, bias)


class TwoTowerNetwork(nn.Module):
    """Base of the networks that encode a query and an item apart from each other.

    A subclass names its settings in `Config`, takes `(config, user, item)`, and implements `reads`,
    `encode_users` and `encode_items`. The score of a query and an item is the inner product of
    their vectors.
    """

    Config: ClassVar[type[Any]]

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        config = getattr(cls, "Config", None)
        frozen = getattr(getattr(config, "__dataclass_params__", None), "frozen", False)
        if config is not None and not frozen:
            raise TypeError(f"{cls.__name__}.Config must be a frozen dataclass")

    @classmethod
    def reads(cls, config: Any) -> Reads:
        """What a network with these settings reads."""
        return Reads()

    def encode_users(self, features: Tensor) -> Tensor:
        """User-side rows [batch, user width] to vectors [batch, dim]."""
        raise NotImplementedError

    def encode_items(self, features: Tensor) -> Tensor:
        """Item-side rows [batch, item width] to vectors [batch, dim]."""
        raise NotImplementedError


def require_network(cls: type[Any], name: str) -> type[TwoTowerNetwork]:
    """The class itself, if it is a network that training can take.

    Raises
    ------
    ConfigError
        It is not; the message says what it lacks.
    """
    if not issubclass(cls, TwoTowerNetwork):
        raise ConfigError(
            f"{name} is no network: it must be a subclass of "
            "sparkrec.models.two_tower.TwoTowerNetwork or sparkrec.models.sequence.SequenceNetwork"
        )
    if not dataclasses.is_dataclass(getattr(cls, "Config", None)):
        raise ConfigError(f"{name} has no `Config`, a frozen dataclass with its settings")
    return cls
