"""The interface of every network whose score is the inner product of a query and an item vector.

A network declares two things: `Config`, its typed settings, and `reads`, the parts of a query and
of an item that are its inputs. Training and retrieval derive everything else from these: encoding,
feed, loss, loop, checkpoints and index.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from sparkrec.errors import ConfigError
from sparkrec.nn.items import ItemContent, ItemEncoder, ItemTable

Role = Literal["user", "last_item", "recent_items"]


@dataclass(frozen=True)
class Reads:
    """The parts of a query and of an item that a network reads.

    Attributes
    ----------
    history
        Number of the latest items of the query's history that are read by dense index; 0 for a
        network that reads the history as a declared feature like any other.
    whole_history
        Whether the items of a query's `history` are read even if the query has a column with its
        recent items, which may be shorter. A query whose history has no known item is not answered.
    user_features
        Whether the declared features of the user side are read in addition to the history.
    item_features
        Whether an item is represented by its declared features; if not, by its dense index.
    item_content
        Whether the declared features of items are read in addition to the dense index. They are
        given to the network by `set_content`.
    default_features
        Roles of the columns that are the features of the user side if no schema declares any.
    """

    history: int = 0
    whole_history: bool = False
    user_features: bool = True
    item_features: bool = True
    item_content: bool = False
    default_features: tuple[Role, ...] = ("user", "last_item", "recent_items")


@dataclass(frozen=True)
class TowerInput:
    """Shape of the input of one side.

    Attributes
    ----------
    num_rows
        Number of rows of the side's embedding table, including padding (0) and unknown (1).
    slices
        (start, stop) columns of each feature, counted from the first column after the dense ones.
    dense
        Number of leading columns that hold dense item indices, if the network reads them: on the
        user side the recent items, oldest first, with padding (0) after the last; on the item side
        the item itself.
    num_items
        Number of rows of a table by dense index, including padding (0) and unknown (1); 0 if
        `dense` is 0.
    floats
        Number of plain numbers in the content of an item.
    """

    num_rows: int
    slices: tuple[tuple[int, int], ...]
    dense: int = 0
    num_items: int = 0
    floats: int = 0

    def item_encoder(
        self, dim: int, std: float | None = None, sparse: bool = False, bias: bool = False
    ) -> ItemTable:
        """Make an encoder of this side's items: an embedding table by item id.

        Parameters
        ----------
        dim
            Width of a vector.
        std
            Standard deviation of the initial weights; 1 / sqrt(dim) by default.
        sparse, bias
            See `nn.items.ItemTable`.
        """
        return ItemTable(self.num_items, dim, dim**-0.5 if std is None else std, sparse, bias)

    def encoder_of(
        self,
        items: str,
        id_dropout: float,
        dim: int,
        std: float | None = None,
        sparse: bool = False,
        bias: bool = False,
    ) -> ItemEncoder:
        """Make an encoder of this side's items by their `id`, their `content` or `both`.

        `id_dropout` is that of `nn.items.ItemContent`; the other parameters are those of
        `item_encoder`. A network with such an encoder has `Reads.item_content` unless it is by id.
        """
        if items == "id":
            return self.item_encoder(dim, std, sparse, bias)
        # Beside content, an item's id begins at zero: it is what content does not say.
        table = self.item_encoder(dim, 0.0, sparse, bias) if items == "both" else None
        std = dim**-0.5 if std is None else std
        shape = dim, self.num_rows, len(self.slices), self.floats
        return ItemContent(*shape, std, sparse, bias, table, id_dropout)


class TwoTowerNetwork(nn.Module):
    """Base of the networks that encode a query and an item separately.

    A subclass has a frozen dataclass `Config` with its settings, a constructor with the arguments
    `(config, user, item)`, and the methods `encode_users` and `encode_items`; it overrides `reads`
    if the defaults of `Reads` do not fit. The score of a query and an item is the inner product of
    their vectors.

    Attributes
    ----------
    has_bias
        Whether the last dimension of an item's vector is the item's bias, and 1 in every query.
    """

    Config: ClassVar[type[Any]]
    has_bias = False

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        config = getattr(cls, "Config", None)
        frozen = getattr(getattr(config, "__dataclass_params__", None), "frozen", False)
        if config is not None and not frozen:
            raise TypeError(f"{cls.__name__}.Config must be a frozen dataclass")

    @classmethod
    def reads(cls, config: Any) -> Reads:
        """The parts of a query and of an item that a network with these settings reads."""
        return Reads()

    def set_content(self, content: Mapping[str, Tensor]) -> None:
        """Give the network the content of the items, by dense index; see `nn.items.ItemContent`."""
        for module in self.modules():
            if isinstance(module, ItemContent):
                module.set_content(**content)

    def encode_users(self, features: Tensor) -> Tensor:
        """Map user-side rows (int64 [batch, user width]) to vectors (float [batch, dim])."""
        raise NotImplementedError

    def encode_items(self, features: Tensor) -> Tensor:
        """Map item-side rows (int64 [batch, item width]) to vectors (float [batch, dim])."""
        raise NotImplementedError


def require_network(cls: type[Any], name: str) -> type[TwoTowerNetwork]:
    """Return the class if it is a network that can be trained.

    Raises
    ------
    ConfigError
        It is not such a network; the message says what is missing.
    """
    if not issubclass(cls, TwoTowerNetwork):
        raise ConfigError(
            f"{name} is not a network: it must be a subclass of "
            "sparkrec.models.two_tower.TwoTowerNetwork or sparkrec.models.sequence.SequenceNetwork"
        )
    if not dataclasses.is_dataclass(getattr(cls, "Config", None)):
        raise ConfigError(f"{name} must have a `Config`, a frozen dataclass with its settings")
    return cls
