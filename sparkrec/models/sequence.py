"""Base of the models that read a user's items in order and are trained at every step.

An item encoder turns each item of a window into a vector, and the network maps these to one vector
per step. The vector of a step is trained to predict the item that follows. A query is encoded as
the vector of its last step, so retrieval treats the model as an ordinary pair of towers.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from sparkrec.models.two_tower import Reads, TowerInput, TwoTowerNetwork
from sparkrec.nn.items import ContentEncoder, ItemEncoder

# What an item's vector is made of: its id, its content (the declared features), or both.
ItemsRead = Literal["id", "content", "both"]


def check_items_read(items: ItemsRead, id_dropout: float) -> None:
    """Raise ValueError for a dropout of ids where they are not all that is dropped from."""
    if id_dropout and items != "both":
        raise ValueError("id_dropout can only be used with items: both")


class SequenceNetwork(TwoTowerNetwork):
    """Base of the sequence models.

    A subclass passes its item encoder to the base class and implements `encode_steps`. Its `Config`
    has the field `max_len`: the number of the latest items of a history that are read, and of the
    steps of a training window.

    Parameters
    ----------
    user, item
        Shapes of both sides.
    items
        Encoder of the input items, `item.item_encoder(dim)`.
    """

    def __init__(self, user: TowerInput, item: TowerInput, items: ItemEncoder) -> None:
        super().__init__()
        assert user.dense and item.dense, "a sequence model needs items by dense index"
        self.history_length = user.dense
        self.items = items

    @classmethod
    def reads(cls, config: Any) -> Reads:
        return Reads(
            history=config.max_len,
            whole_history=True,
            user_features=False,
            item_features=False,
            item_content=getattr(config, "items", "id") != "id",
            default_features=("recent_items",),
        )

    @property
    def found_items(self) -> ItemEncoder:
        """Encoder of the candidate items, which steps are multiplied with; by default `items`."""
        return self.items

    def with_user(self, steps: Tensor, users: Tensor) -> Tensor:
        """Join the vectors of a window's steps with the features of its user.

        The default returns the steps. A network with `Reads.user_features` overrides this.

        Parameters
        ----------
        steps
            [batch, steps, width]: what `encode_steps` returned.
        users
            int64 [batch, user width]: embedding rows of the declared features of the user side, as
            `nn.embedding.PooledEmbedding` reads them.

        Returns
        -------
        Tensor
            [batch, steps, dim of `found_items`].
        """
        return steps

    def encode_steps(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """Map the vectors of a window's items to the vectors of its steps.

        Parameters
        ----------
        vectors
            float [batch, steps, dim]: the vector of each item, oldest first; padding comes after
            the last item.
        mask
            bool [batch, steps]: True where there is an item.

        Returns
        -------
        Tensor
            [batch, steps, dim of `found_items`], or what `with_user` maps to it. The vector of a
            step may depend on the item of the step and on earlier items only. Vectors where the
            mask is False are not used.
        """
        raise NotImplementedError

    def scaled(self, vectors: Tensor) -> Tensor:
        """Scale the vectors [..., dim] of steps and of candidates; by default unchanged.

        A network whose score is the cosine gives them unit length here.
        """
        return vectors

    def encode_windows(self, items: Tensor, users: Tensor | None = None) -> Tensor:
        """Map windows [batch, steps] of dense item indices to step vectors [batch, steps, dim].

        Padding (0) comes after the last item. `users` has the features of the users, as in
        `with_user`; None if the network reads none.
        """
        return self._joined(self.items(items), items, users)

    def encode_step(
        self, items: Tensor, candidates: Tensor, users: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """`encode_windows` and the vectors of candidates, as a training step needs both.

        If items are read and found by one encoder of their content, each item of the step is
        encoded once, and its id is dropped in both places or in neither.

        Parameters
        ----------
        items
            int64 [batch, steps]: windows, as in `encode_windows`.
        candidates
            int64 [candidates]: dense item indices.
        users
            int64 [batch, user width] or None, as in `encode_windows`.
        """
        own = any(
            getattr(type(self), name) is not getattr(SequenceNetwork, name)
            for name in ("encode_windows", "encode_items")
        )
        if own or self.found_items is not self.items or not isinstance(self.items, ContentEncoder):
            return self.encode_windows(items, users), self.encode_items(candidates[:, None])
        vectors = self.items(torch.cat([items.flatten(), candidates]))
        read, found = vectors.split([items.numel(), len(candidates)])
        return self._joined(read.view(*items.shape, -1), items, users), self.scaled(found)

    def encode_items(self, features: Tensor) -> Tensor:
        """Map item-side rows [batch, 1] to vectors [batch, dim]."""
        return self.scaled(self.found_items(features[:, 0]))

    def encode_users(self, features: Tensor) -> Tensor:
        """Map user-side rows [batch, width] to the vectors of their last steps, [batch, dim].

        The first columns have the history, where padding (0) comes after the last item; then come
        the features of the user. A history without items gives the zero vector.
        """
        items, users = features.tensor_split([self.history_length], dim=1)
        lengths = (items != 0).sum(dim=1)
        longest = max(int(lengths.max()) if len(lengths) else 0, 1)
        states = self.encode_windows(items[:, :longest], users)
        last = states[torch.arange(len(items), device=items.device), (lengths - 1).clamp(min=0)]
        return last * (lengths > 0)[:, None]

    def _joined(self, vectors: Tensor, items: Tensor, users: Tensor | None) -> Tensor:
        """The vectors of the steps of windows whose items have the given vectors."""
        steps = self.encode_steps(vectors, items != 0)
        return self.scaled(self.with_user(steps, items[:, :0] if users is None else users))


class RecurrentNetwork(SequenceNetwork):
    """Base of the networks of GRU layers. Only these can be trained with `session_parallel`.

    Attributes
    ----------
    layers
        `nn.GRU` modules of one layer each, `batch_first`, in the order in which they are applied.
    dropout_embedding, dropout_hidden
        Dropout probabilities of the item vectors and of each layer's output.
    items, found_items
        Tables by item index (`nn.items.ItemTable`). If a vector is longer than the input of the
        first layer, the layer reads its leading dimensions.
    """

    layers: nn.ModuleList
    dropout_embedding: float
    dropout_hidden: float

    def with_one(self, states: Tensor) -> Tensor:
        """Append a 1 to the states of the last layer if items have biases, else return them."""
        return states
