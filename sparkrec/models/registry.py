"""Finds the class of a model by name: built into sparkrec, from a package, or in any module.

A name is one of

- a short name of `BUILT_IN`: `dssm`;
- an entry point of the group `sparkrec.models`, which an installed package declares::

      [project.entry-points."sparkrec.models"]
      bst = "acme.bst:BST"

- `module:Class`, such as `acme.bst:BST`, if the module can be imported.

The class is a network (`models.two_tower.TwoTowerNetwork`, `models.sequence.SequenceNetwork`) or
the Estimator of a count model (`retrieval.base.Retriever`).
"""

import difflib
import importlib
import importlib.metadata
from typing import Any

from sparkrec.errors import ConfigError

BUILT_IN = {
    "dssm": "sparkrec.models.dssm:DSSM",
    "simplex": "sparkrec.models.simplex:SimpleX",
    "hrm": "sparkrec.models.hrm:HRM",
    "gru4rec": "sparkrec.models.gru4rec:GRU4Rec",
    "sasrec": "sparkrec.models.sasrec:SASRec",
    "ssr": "sparkrec.models.ssr:SSR",
    "global_hot": "sparkrec.baselines.popularity.global_hot:GlobalHot",
    "personal_top": "sparkrec.baselines.popularity.personal_top:PersonalTop",
    "random": "sparkrec.baselines.popularity.random_items:Random",
    "content_knn": "sparkrec.baselines.content.knn:ContentKNN",
    "content_popularity": "sparkrec.baselines.content.popularity:ContentPopularity",
    "item_cf": "sparkrec.baselines.item_to_item.item_cf:ItemCF",
    "swing": "sparkrec.baselines.item_to_item.swing:Swing",
    "als": "sparkrec.baselines.als.als:ALS",
}
_GROUP = "sparkrec.models"


def find_class(name: str) -> type[Any]:
    """Return the class of a short name, of an entry point, or of `module:Class`.

    Raises
    ------
    ConfigError
        There is no such name, module or class, or the import of the module fails.
    """
    module_name, colon, class_name = _path(name).partition(":")
    if not colon or not module_name or not class_name:
        raise ConfigError(f"`{name}` must be module:Class, such as acme.bst:BST")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            raise ConfigError(
                f"{name}: there is no module `{error.name}` on Python's path; install its package, "
                "or put its folder into PYTHONPATH (with spark-submit, give the file by --py-files)"
            ) from None
        raise ConfigError(f"{name}: importing {module_name} fails: {error}") from error
    except Exception as error:
        raise ConfigError(
            f"{name}: importing {module_name} fails: {type(error).__name__}: {error}"
        ) from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        near = _nearest(class_name, classes)
        raise ConfigError(f"{name}: module {module_name} has no class `{class_name}`{near}")
    return found


def class_path(cls: type[Any]) -> str:
    """Return `module:Class`, with which `find_class` finds the class in another process.

    Raises
    ------
    ConfigError
        The class is not at the top of a module that others can import.
    """
    if cls.__module__ == "__main__" or "<locals>" in cls.__qualname__:
        raise ConfigError(
            f"the class {cls.__name__} is defined in a script, a notebook or a function, where no "
            "other process finds it; define it at the top level of a module file and import it"
        )
    return f"{cls.__module__}:{cls.__qualname__}"


def short_name(cls: type[Any]) -> str:
    """The name of a class in results: its short name, or the name of the class if it has none."""
    path = f"{cls.__module__}:{cls.__qualname__}"
    names = [name for name, known in _entry_points().items() if known == path]
    return next((name for name, known in BUILT_IN.items() if known == path), None) or (
        names[0] if names else cls.__name__
    )


def _path(name: str) -> str:
    if ":" in name:
        return name
    if name in BUILT_IN:
        return BUILT_IN[name]
    installed = _entry_points()
    if name not in installed:
        known = [*BUILT_IN, *installed]
        raise ConfigError(
            f"unknown model `{name}`{_nearest(name, known)}; known: {', '.join(known)}, or your "
            "own class as module:Class"
        )
    return installed[name]


def _entry_points() -> dict[str, str]:
    return {point.name: point.value for point in importlib.metadata.entry_points(group=_GROUP)}


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean `{near[0]}`?" if near else ""
