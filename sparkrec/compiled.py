"""How loops over events are compiled."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

C = TypeVar("C", bound=Callable[..., Any])


def compiled(function: C) -> C:
    """Compile at the first call with numba; the result is kept on disk where that can serve.

    A package that executors load from a zip lies below another folder in every session, so what
    numba kept for it would never be found again; then each Python worker compiles for itself, as
    it does where no folder can be written.

    numba compiles again when the function's own file changes, and does not notice a change of
    what it calls elsewhere: after one, delete the `__pycache__` of the callers.
    """
    if Path(function.__code__.co_filename).is_file():
        try:
            return cast(C, numba.njit(nogil=True, error_model="numpy", cache=True)(function))
        except RuntimeError:  # numba found no folder that it may write to
            pass
    return cast(C, numba.njit(nogil=True, error_model="numpy")(function))
