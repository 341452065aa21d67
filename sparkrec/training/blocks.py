"""Retrievers whose params are the fields of a config's blocks: `model`, `loss`, `training`, ..."""

import dataclasses
from typing import Any, ClassVar

from sparkrec.errors import ConfigError
from sparkrec.retrieval.base import Retriever


class BlockRetriever(Retriever):
    """Base of a retriever with a param for every field of `config_blocks`."""

    config_blocks: ClassVar[dict[str, type[Any]]]
    # Blocks whose defaults, without a config, are not those of the block itself.
    defaults: ClassVar[dict[str, Any]] = {}

    def _set_blocks(self, config: Any) -> None:
        """Take the params' defaults from a config's blocks, or from the blocks' own."""
        for name, kind in self.config_blocks.items():
            given = getattr(config, name, None)
            block = given or self.defaults.get(name) or kind()
            for field in dataclasses.fields(kind):
                param = param_name(name, field.name)
                # Without a config, what every retriever has keeps every retriever's default.
                if given is not None or not hasattr(Retriever, param):
                    self._setDefault(**{param: getattr(block, field.name)})
        if config is not None and hasattr(config, "seed"):
            self._setDefault(seed=config.seed)

    def _copyValues(self, to: Any, extra: Any = None) -> Any:  # noqa: N802  pyspark's name
        """Give the model those params that it has; the others belong to training."""
        for param, value in self.extractParamMap(extra).items():
            if to.hasParam(param.name):
                to._set(**{param.name: value})
        return to

    def _block(self, name: str) -> Any:
        kind = self.config_blocks[name]
        values = {
            field.name: self.get(param_name(name, field.name)) for field in dataclasses.fields(kind)
        }
        try:
            return kind(**values)
        except ValueError as error:
            raise ConfigError(f"{name}.{error}") from None


def param_name(block: str, field: str) -> str:
    """The Param of a field of a config block."""
    return "loss" if (block, field) == ("loss", "name") else field
