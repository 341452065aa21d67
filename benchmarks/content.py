"""What the content of items costs: in a training step, and to encode a million items.

Run by `make bench`. Steps are those of windows of MovieLens-1M's shape (200 events, 3,400 items of
15 values each, 7,000 values in all), softmax over all items; the reference is the same step with
`items: id`. The two are taken in turns, and each is the median of all its steps. The million items
have a title of six words, a genre out of 20 and a year; the encoder is fitted on them and encodes
them, and a network of 128 dimensions makes their vectors.
"""

import argparse
from time import perf_counter

import numpy as np
import pyarrow as pa
import torch
from _measure import Figures, peak_memory, report, start_session
from torch import Tensor, nn
from training import sequences

from sparkrec.encoding.declared import fit_item_features
from sparkrec.models.gru4rec import GRU4Rec, GRU4RecConfig
from sparkrec.models.sasrec import SASRec, SASRecConfig
from sparkrec.models.ssr import SSR, SSRConfig
from sparkrec.models.two_tower import TowerInput
from sparkrec.retrieval.answering.network import NetworkSpec, TrainedNetwork
from sparkrec.schema.parser import feature_schema
from sparkrec.schema.text import Text
from sparkrec.training.settings import Loss, Training
from sparkrec.training.step.objectives import objective
from sparkrec.training.step.optimizers import make_optimizers

ITEMS, VALUES, EACH, STEPS = 3400, 7000, 15, 200
USER = TowerInput(2, (), STEPS, ITEMS + 2)
ITEM = TowerInput(VALUES, ((0, EACH),), 1, ITEMS + 2)


def network(kind: str, read: str) -> nn.Module:
    """A network of the size of `conf/*_ml_1m.yaml`."""
    items = {"items": read, "id_dropout": 0.3 if read == "both" else 0.0}
    if kind == "sasrec":
        made: nn.Module = SASRec(SASRecConfig(**items), USER, ITEM)  # type: ignore[arg-type]
    elif kind == "ssr":
        made = SSR(SSRConfig(**items), USER, ITEM)  # type: ignore[arg-type]
    else:
        wide = GRU4RecConfig(STEPS, (256,), 256, dropout_hidden=0.3, **items)  # type: ignore[arg-type]
        made = GRU4Rec(wide, USER, ITEM)
    if read == "both":
        rng = np.random.default_rng(0)
        rows = torch.from_numpy(rng.integers(2, VALUES, (ITEMS + 2, EACH), dtype=np.int32))
        weights = torch.full((ITEMS + 2, EACH), EACH**-0.5)
        content = {"item_rows": rows, "item_weights": weights}
        made.set_content({**content, "item_floats": torch.zeros(ITEMS + 2, 0)})  # type: ignore[operator]
    return made


def seconds_of_steps(kind: str, read: str, batches: list[Tensor]) -> list[float]:
    """Seconds of each step, without the first two."""
    training = Training(clip_norm=1.0)
    made = network(kind, read)
    features = torch.arange(ITEMS + 2)[:, None]
    learner = objective(made, Loss("softmax", "all", temperature=1.0), features, None, training)
    learner.begin_epoch()
    learner.watched = False
    updates, seconds = make_optimizers(made, training), []
    for items in batches:
        start = perf_counter()
        learner.learn({"items": items})
        for optimizer in updates:
            optimizer.step()
        seconds.append(perf_counter() - start)
    return seconds[2:]


def million_items(count: int) -> Figures:
    """Seconds and memory for items that have a title, a genre and a year."""
    spark, _ = start_session("content")
    rng = np.random.default_rng(1)
    words = np.array([f"w{number}" for number in range(200_000)])
    drawn = words[np.minimum(rng.zipf(1.3, (count, 6)) - 1, len(words) - 1)]
    titles = [" ".join(row) for row in drawn]
    table = pa.table(
        {
            "title": titles,
            "genre": pa.array(rng.integers(20, size=count)),
            "year": pa.array(rng.integers(1950, 2020, size=count)),
        }
    )
    lines = "tokens(title)\ngenre\nyear"
    schema = feature_schema("title\ngenre\nyear", "columns", lines, "features")
    found: Figures = {}
    with peak_memory(found):
        start = perf_counter()
        every = np.ones(count, bool)
        features = fit_item_features(spark, table, every, schema, Text(), 64, {})
        found["fit_seconds"] = perf_counter() - start
        start = perf_counter()
        content = features.encode(table)
        found["encode_seconds"] = perf_counter() - start
        start = perf_counter()
        rows = features.rows
        item = TowerInput(rows.num_rows, tuple(rows.slices), 1, 2, features.num_floats)
        spec = NetworkSpec(
            "sparkrec.models.ssr:SSR",
            {"items": "content"},
            TowerInput(2, (), STEPS, 2),
            item,
        )
        tensors = {
            name: torch.from_numpy(np.pad(value, ((2, 0), (0, 0))))
            for name, value in content.arrays().items()
        }
        torch.manual_seed(1)
        weights = spec.build(tensors).state_dict()
        vectors = TrainedNetwork(spec, weights, tensors).item_vectors(np.arange(count)[:, None] + 2)
        found["vectors_seconds"] = perf_counter() - start
    spark.stop()
    content_gb = sum(value.nbytes for value in content.arrays().values()) / 2**30
    found |= {"content_gb": content_gb, "vectors_gb": vectors.nbytes / 2**30}
    return {**found, "values": rows.num_rows, "width": content.rows.shape[1]}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--items", type=int, default=1_000_000)
    options = parser.parse_args()
    torch.manual_seed(1)
    windows = sequences(32 * options.steps, STEPS + 1, ITEMS, seed=2)
    batches = list(windows[(windows != 0).sum(dim=1).argsort()].split(32))
    rows: dict[str, Figures] = {}
    ratios: dict[str, float] = {}
    for kind in ("gru4rec", "sasrec", "ssr"):
        seconds: dict[str, list[float]] = {"id": [], "both": []}
        for _ in range(options.turns):
            for read, all_seconds in seconds.items():
                all_seconds += seconds_of_steps(kind, read, batches)
        middle = {read: float(np.median(values)) for read, values in seconds.items()}
        rows |= {f"{kind}, items: {read}": {"step_seconds": middle[read]} for read in middle}
        ratios[f"{kind}: both / id"] = middle["both"] / middle["id"]
    rows[f"{options.items:,} items"] = million_items(options.items)
    report(rows, ratios)


if __name__ == "__main__":
    main()
