"""Compiles loops over events with numba, and caches the machine code on disk."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.dispatcher import Dispatcher

C = TypeVar("C", bound=Callable[..., Any])


def compiled(function: C) -> C:
    """Compile a function at its first call, without the GIL, and cache the machine code on disk.

    There is no cache if no folder can be written, or if the package is loaded from a zip, because
    Spark unpacks a zip into a new folder in every session.

    Callees are compiled into their caller. numba only checks whether the file of the caller has
    changed, so after an upgrade that changes only a callee it would use old code. Here the cache is
    also discarded when `dependency_stamp` changes.
    """
    dispatcher: Any = numba.njit(nogil=True, error_model="numpy")(function)
    if Path(function.__code__.co_filename).is_file():
        # RuntimeError: numba found no folder that it may write to. OSError: a callee is in a zip.
        with suppress(RuntimeError, OSError):
            dispatcher._cache = _StampedCache(function)
    return cast(C, dispatcher)


class _StampedCache(FunctionCache):
    """numba's cache of a function, valid for one `dependency_stamp`."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        stamp = (self._impl.locator.get_source_stamp(), dependency_stamp(function))
        self._cache_file = IndexDataCacheFile(self.cache_path, self._impl.filename_base, stamp)


def dependency_stamp(function: Callable[..., Any]) -> str:
    """A hash of everything that can be compiled into a function.

    It includes this file, the files of the compiled functions that the function's module imports
    (also indirectly), and the numbers among the globals of all these modules. Callees must be
    imported by name, `from module import callee`; `module.callee` is not found.
    """
    files = {Path(__file__), Path(function.__code__.co_filename)}
    scopes = [function.__globals__]
    numbers = []
    for scope in scopes:
        for name, value in scope.items():
            if isinstance(value, Dispatcher):
                file = Path(value.py_func.__code__.co_filename)
                if file not in files:
                    files.add(file)
                    scopes.append(value.py_func.__globals__)
            elif isinstance(value, int | float | np.generic):
                numbers.append(f"{name}={value!r}")
    digest = hashlib.sha256("\n".join(sorted(numbers)).encode())
    for content in sorted(file.read_bytes() for file in files):
        digest.update(content)
    return digest.hexdigest()
