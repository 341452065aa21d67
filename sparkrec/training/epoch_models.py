"""Whole models of single epochs, written while training goes on (`save_inference_interval`)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.io import storage
from sparkrec.io.publishing import part
from sparkrec.item_index import FIRST_ITEM
from sparkrec.retrieval.answering.network import NetworkSpec, TrainedNetwork
from sparkrec.retrieval.answering.two_tower import ITEMS_FILE, write_trained
from sparkrec.retrieval.search.index import VectorIndex
from sparkrec.retrieval.search.settings import Retrieval


@dataclass(frozen=True)
class EpochModels:
    """Where models of single epochs are written, and what they have in common.

    Attributes
    ----------
    template
        Folder of a saved model without weights and index.
    folder
        The models are written to `epoch-<n>` below it.
    interval
        Number of epochs from one model to the next.
    settings
        Settings of the index.
    """

    template: str
    folder: str
    interval: int
    settings: Retrieval

    def write(
        self,
        epoch: int,
        network: NetworkSpec,
        weights: Mapping[str, Tensor],
        content: Mapping[str, Tensor],
        item_features: Tensor,
    ) -> None:
        """Write the model of an epoch, if it is one of the interval's.

        A model of the same epoch that is there already is replaced. Torch's random state does not
        change. Costs encoding and indexing all items, in the training process.
        """
        if epoch % self.interval:
            return
        with torch.random.fork_rng(devices=[]):
            trained = TrainedNetwork(network, weights, content)
            vectors = trained.item_vectors(item_features[FIRST_ITEM:].cpu().numpy())
        order = Catalogue.read(storage.join(self.template, ITEMS_FILE)).order
        index = VectorIndex.build(vectors, self.settings, order)
        with part(storage.join(self.folder, f"epoch-{epoch}"), hashes=True) as folder:
            storage.copy_folder(self.template, folder)
            write_trained(folder, trained.weights, index)
