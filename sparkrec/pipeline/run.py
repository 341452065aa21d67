"""A retrieval job's run: its model, recommendations, evaluation and metrics.json.

A finished run has `model/`, `recommendations/{seen_kept,seen_excluded}/`, `metrics.json` and
`replicates.parquet`, with which two runs are compared; with `training.save_inference_interval` also
`models/epoch-<n>/`. While it is at work it also has `work/`
(encoded rows and checkpoints).
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from time import perf_counter
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkrec.config import load as configs
from sparkrec.errors import ConfigError, DataError
from sparkrec.evaluation.cold import AMONG_COLD, AMONG_WARM, evaluate_cold
from sparkrec.evaluation.metrics import Evaluation, count_items, evaluate
from sparkrec.evaluation.protocols import COLD_ITEMS, protocol
from sparkrec.io import storage
from sparkrec.io.outputs import WORK, is_published, resolve
from sparkrec.io.tables import load_table, write_part
from sparkrec.models.registry import find_class, short_name
from sparkrec.pipeline.compare import with_yardsticks, write_replicates
from sparkrec.pipeline.inputs import RetrievalJob, Tables, retriever_params
from sparkrec.pipeline.report import Result, format_table, metrics_json
from sparkrec.retrieval.base import RetrievalModel, Retriever
from sparkrec.retrieval.search.candidates import Candidates
from sparkrec.transforms.cold_items import FIRST_SEEN

log = logging.getLogger("sparkrec.run")


class Run:
    """A run of a job while it is at work: a new version of the job's output.

    Attributes
    ----------
    folder
        Where the run is written.
    """

    def __init__(self, job: RetrievalJob, tables: Tables, folder: str) -> None:
        self.name = short_name(find_class(job.model_class))
        self.job, self.tables, self.folder = job, tables, folder
        self.seconds: dict[str, float] = {}
        self.results: list[Result] = []

    def path(self, *parts: str) -> str:
        """A path in the run's folder."""
        return storage.join(self.folder, *parts)

    def fit_or_load(self, estimator: Retriever) -> RetrievalModel:
        """Fit and save the model, or load the saved one where `mode` is `[infer]`.

        A loaded model is asked as the conf says (`model.query_params`), not as it was saved.

        Raises
        ------
        DataError
            There is no saved model, or it is of another class than the conf's.
        """
        if "train" not in self.job.mode:
            path = resolve(saved_model_path(self.job))
            model = estimator.model_class.load(path)
            trained = model.fit_report.get("network")
            if trained is not None and trained != self.job.model_class:
                raise DataError(
                    f"mode is [infer], but {path} holds a model of {trained}, not of "
                    f"{self.job.model_class}"
                )
            asked = {name: estimator.get(name) for name in model.query_params}
            model.set_params(**retriever_params(self.job), **asked)
            model.users = self.tables.users
            storage.copy_folder(path, self.path("model"))
            return model
        start = perf_counter()
        estimator.work_path, estimator.models_path = self.path(WORK), self.path("models")
        model = estimator.fit(self.tables.train)
        self.seconds |= {"fit": perf_counter() - start, **model.fit_report.get("seconds", {})}
        model.save_part(self.path("model"))
        for name, table in model.tables(self.tables.test.sparkSession).items():
            write_part(table, self.path(name))
        return model

    def evaluate(self, model: RetrievalModel, yardstick: str | None = None) -> None:
        """Recommend for every test row, seen kept and seen excluded, and evaluate both.

        The recommendations of the job's own model are written to the run folder; those of a
        yardstick, which is named, are not. Does nothing where `mode` is `[train]`.
        """
        if "infer" not in self.job.mode:
            return
        job, columns = self.job, self.job.columns
        chosen = protocol(job.evaluation.protocol)
        queries = chosen.relevant_queries(
            self.tables.test, columns.rating, job.evaluation.rating_above
        )
        model.items = self.tables.items
        if chosen.name == COLD_ITEMS:
            score = job.evaluation.new_items_score if yardstick is None else 0.0
            model = self._with_cold_items(model, score)
        counts = count_items(self.tables.events, columns.item).persist()
        first = job.retrieval.exclude_seen
        for exclude_seen in (first, not first):
            params = {model.getParam("exclude_seen"): exclude_seen}
            answered = model.transform(queries, params).select("query_id", "recommended")
            start = perf_counter()
            if yardstick is not None:
                recommendations = answered.persist()
            else:
                folder = "seen_excluded" if exclude_seen else "seen_kept"
                path = self.path("recommendations", folder)
                rows = write_part(answered, path)["rows"]
                recommendations = load_table(answered.sparkSession, path)
                self._report_short(recommendations, rows, exclude_seen)
                self._add_seconds("recommend", start)
            start = perf_counter()
            if chosen.name == COLD_ITEMS:
                found = self._evaluate_cold(model, recommendations, queries, exclude_seen)
            else:
                found = evaluate(
                    recommendations,
                    queries,
                    columns.user,
                    counts,
                    ties=chosen.ties,
                    last_apart=chosen.last_apart,
                )
            recommendations.unpersist()
            if yardstick is None:
                self._add_seconds("evaluate", start)
            self.results.append(Result.of(found, yardstick or self.name, chosen.name, exclude_seen))
        counts.unpersist()

    def _with_cold_items(self, model: RetrievalModel, score: float) -> RetrievalModel:
        """The model with the cold items of the split, if it can take items it has never seen."""
        items, cold = self.tables.items, self.tables.cold_items
        assert items is not None and cold is not None
        new = items.join(F.broadcast(cold.select(self.job.columns.item)), self.job.columns.item)
        try:
            return model.add_items(new, score)
        except ConfigError as error:
            if score:
                raise
            log.info("cold items are misses: %s", error)
            return model

    def _evaluate_cold(
        self,
        model: RetrievalModel,
        recommendations: DataFrame,
        queries: DataFrame,
        exclude_seen: bool,
    ) -> Evaluation:
        columns, table = self.job.columns, self.tables.cold_items
        assert table is not None
        cold = table.select(F.col(columns.item).alias("item"), FIRST_SEEN).persist()
        cold_ids = [row["item"] for row in cold.select("item").collect()]
        rules = self.job.retrieval.candidates or Candidates()
        new = set(cold_ids)
        warm_ids = [item for item in model.catalogue.ids.to_pylist() if item not in new]
        among = {}
        for name, ids in ((AMONG_COLD, cold_ids), (AMONG_WARM, warm_ids)):
            params = {
                model.getParam("exclude_seen"): exclude_seen,
                model.getParam("candidates"): replace(rules, allow=tuple(ids)),
                model.getParam("fallback"): "none",
            }
            answered = model.transform(queries, params).select("query_id", "recommended")
            among[name] = answered.persist()
        time = columns.timestamp if columns.timestamp in queries.columns else None
        found = evaluate_cold(
            recommendations,
            among,
            queries,
            columns.user,
            cold,
            timestamp=time,
        )
        for answered in among.values():
            answered.unpersist()
        cold.unpersist()
        return found

    def evaluate_yardsticks(self, yardsticks: Mapping[Any, Retriever]) -> None:
        """Fit and evaluate yardsticks, given by name, beside the job's own model."""
        for name, estimator in yardsticks.items():
            self.evaluate(estimator.fit(self.tables.events), name)

    def write_metrics(self, model: RetrievalModel) -> str:
        """Write metrics.json and the bootstrap replicates; returns the tables to print."""
        job = self.job
        write_replicates(self.folder, self.results)
        comparisons = with_yardsticks(self.results, self.name)
        metrics = metrics_json(
            model=self.name,
            trained=find_class(job.model_class),
            dataset=job.dataset,
            config=configs.to_json(job),
            seed=job.seed,
            data=self.tables.fingerprint,
            seconds={name: round(value, 3) for name, value in self.seconds.items()},
            results=self.results,
            differences=[comparison.to_json() for comparison in comparisons],
            diverged=model.fit_report.get("diverged"),
        )
        storage.write_json(self.path("metrics.json"), metrics)
        tables = [format_table(self.results), *map(str, comparisons)]
        return "\n\n".join([*tables, f"written to {job.output_path}"])

    def _add_seconds(self, name: str, start: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - start

    def _report_short(self, recommendations: DataFrame, rows: int, exclude_seen: bool) -> None:
        short = recommendations.where(F.size("recommended") < self.job.retrieval.k).count()
        if short:
            log.warning(
                "%d of %d queries got fewer than %d items (seen %s)",
                short,
                rows,
                self.job.retrieval.k,
                "excluded" if exclude_seen else "kept",
            )


def saved_model_path(job: RetrievalJob) -> str:
    """Where `mode: [infer]` finds its model.

    Raises
    ------
    DataError
        No model is there.
    """
    path = job.init_model_path or storage.join(job.output_path, "model")
    if not is_published(path):
        raise DataError(
            f"mode is [infer], but there is no saved model at {path}; set init_model_path, or "
            "train with mode: [train, infer]"
        )
    return path
