"""Settings and networks that cannot be trained together."""

from sparkrec.errors import ConfigError
from sparkrec.models.sequence import RecurrentNetwork, SequenceNetwork
from sparkrec.models.two_tower import Reads, TwoTowerNetwork
from sparkrec.training.settings import Loss, Training


def require_compatible(loss: Loss, training: Training) -> None:
    """Raise ValueError for settings of the two blocks that exclude each other."""
    if loss.weight_col is not None and training.session_parallel:
        raise ValueError(
            "loss.weight_col must be left out with training.session_parallel, which trains all "
            "events with the same weight"
        )


def require_trainable(network: type[TwoTowerNetwork], reads: Reads, training: Training) -> None:
    """Raise ConfigError for settings of the training that a network cannot be trained with."""
    name = network.__name__
    if training.by_session and not issubclass(network, SequenceNetwork):
        raise ConfigError(
            f"training.by_session is for sequence models; {name} reads the history of each row of "
            "train, which jobs/history_features.py with by_session: true makes of earlier sessions "
            "alone; remove the key"
        )
    if not training.session_parallel:
        return
    if not issubclass(network, RecurrentNetwork):
        raise ConfigError(
            "training.session_parallel carries a hidden state from step to step, which "
            f"{name} does not have; remove the key"
        )
    if reads.item_content:
        raise ConfigError(
            "training.session_parallel reads items by their id; remove the key, or set "
            "model.items: id"
        )
