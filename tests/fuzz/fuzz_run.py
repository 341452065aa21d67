"""`make fuzz CASES=500`: tries so many cases on a source tree and counts what became of them.

`--tree` and `--python` name another version of the package and the interpreter of its environment.
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "helpers")]

import fuzz_mutations as mutations  # noqa: E402
from fuzz_child import Child  # noqa: E402
from fuzz_outcomes import Outcome  # noqa: E402
from fuzz_root import MODELS, build, model_folder  # noqa: E402
from fuzz_trial import Found, Trial  # noqa: E402
from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

REPO = Path(__file__).parents[2]
# Share of each family in the cases, in percent.
SHARES = {"confs": 40, "schema files": 15, "model folders": 25, "tables": 20}


def families(
    trial: Trial, tree: Path
) -> dict[str, Callable[[], tuple[Any, Callable[[Any], Found]]]]:
    """By name: what gives a strategy of cases, and the function that tries one."""

    def damaged() -> Any:
        folders = {
            model: trial.copy / model_folder(trial.root, model).relative_to(trial.root)
            for model in MODELS
        }
        return st.sampled_from(sorted(MODELS)).flatmap(
            lambda model: st.tuples(
                st.just(model),
                mutations.damages(
                    folders[model], [path for name, path in folders.items() if name != model]
                ),
            )
        )

    schemas = trial.copy / "movielens/1m/schema/dssm_features"
    return {
        "confs": lambda: (mutations.confs(tree), lambda case: trial.conf(*case[:2])),
        "schema files": lambda: (
            mutations.schema_files(schemas),
            lambda case: trial.schema(*case),
        ),
        "model folders": lambda: (damaged(), lambda case: trial.model(*case)),
        "tables": lambda: (mutations.tables(), trial.table),
    }


def count(
    strategy: Any, attempt: Callable[[Any], Found], cases: int, number: int, every: bool
) -> Counter[Any]:
    """Outcomes of so many cases; those that are not good are printed, or every one."""
    counts: Counter[Any] = Counter()

    @seed(number)
    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def one(case: Any) -> None:
        outcome, note = attempt(case)
        counts[outcome] += 1
        if every or not outcome.good:
            what = case[2] if len(case) == 3 and isinstance(case[2], str) else repr(case)
            last = " | ".join(line for line in note.strip().splitlines()[-3:])
            print(f"{outcome.value}: {what[:300]}\n    {last[-400:]}", flush=True)

    one()
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tree", type=Path, default=REPO)
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    parser.add_argument("--only", choices=sorted(SHARES), help="cases of one family")
    parser.add_argument("--every", action="store_true", help="print the good cases, too")
    options = parser.parse_args()
    tree = options.tree.resolve()
    shares = {options.only: 100} if options.only else SHARES
    with tempfile.TemporaryDirectory(prefix="sparkrec-fuzz-") as folder:
        root = Path(folder) / "data"
        environ = {"MY_S3_BUCKET": str(root), "HOME": f"{folder}/home", "OMP_NUM_THREADS": "1"}
        with Child(tree, options.python.absolute(), environ, Path(folder) / "cwd") as child:
            build(root, tree, child.run, tuple(MODELS) if "model folders" in shares else ())
            tried = families(Trial(root, child.run), tree)
            found = {}
            for name, share in shares.items():
                cases = max(1, options.cases * share // 100)
                found[name] = count(*tried[name](), cases, options.seed, options.every)
    print(table(found))
    bad = sum(n for counts in found.values() for outcome, n in counts.items() if not outcome.good)
    return int(bad > 0)


def table(found: dict[str, Counter[Any]]) -> str:
    """Counts by family and outcome."""
    lines = [f"{'':15}" + "".join(f"{name:>16}" for name in ("cases", *(o.value for o in Outcome)))]
    total: Counter[Any] = sum(found.values(), Counter())
    for name, counts in {**found, "all": total}.items():
        numbers = (sum(counts.values()), *(counts[outcome] for outcome in Outcome))
        lines.append(f"{name:15}" + "".join(f"{number:>16}" for number in numbers))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
