"""The candidates of a catalogue, and how they change with the time of a query. Imports no Spark."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sparkrec.errors import DataError

Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Allowed:
    """The candidates of a catalogue.

    Attributes
    ----------
    mask
        bool [items]: the candidates, whatever the time.
    start, stop
        float64 [items]: from when on and before when, in seconds; None without such a bound.
    """

    mask: Mask
    start: Doubles | None = None
    stop: Doubles | None = None

    @property
    def by_time(self) -> bool:
        """Whether the candidates depend on the time of a query."""
        return self.start is not None or self.stop is not None

    def at(self, batch: pa.RecordBatch, timestamp: str) -> Iterator[tuple[Ints, Mask]]:
        """The rows of a batch that have the same candidates, and these, [items].

        Parameters
        ----------
        timestamp
            Column of the time of a query, in seconds since the epoch or a timestamp.

        Raises
        ------
        DataError
            The batch has no such column, or a query has no time.

        Notes
        -----
        The candidates change at the times that bound some item, so there are at most as many groups
        of rows as there are such times between the first query and the last, plus one.
        """
        require_timestamp(batch.schema.names, timestamp)
        times = seconds_of(batch.column(timestamp), timestamp, np.nan)
        if np.isnan(times).any():
            raise DataError(
                f"{int(np.isnan(times).sum()):,} queries have no `{timestamp}`, with which "
                "candidates.available_from and available_until are compared"
            )
        bounds = [bound for bound in (self.start, self.stop) if bound is not None]
        changes = np.unique(np.concatenate(bounds))
        period = np.searchsorted(changes, times, side="right")
        for one in np.unique(period):
            rows = np.flatnonzero(period == one)
            mask, time = self.mask.copy(), times[rows[0]]
            if self.start is not None:
                mask &= self.start <= time
            if self.stop is not None:
                mask &= time < self.stop
            yield rows, mask


def require_timestamp(columns: list[str], timestamp: str) -> None:
    """Raise DataError unless queries have the column of their time."""
    if timestamp not in columns:
        raise DataError(
            f"queries have no column `{timestamp}`, with which candidates.available_from and "
            f"available_until are compared (they have {', '.join(columns)})"
        )


def seconds_of(values: pa.Array, column: str, missing: float) -> Doubles:
    """Times in seconds since the epoch, and `missing` for null."""
    kind = values.type
    if pa.types.is_timestamp(kind):
        values = values.cast(pa.timestamp("us", tz=kind.tz)).cast(pa.int64())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise DataError(
            f"the column `{column}` is of type {kind}, but must be seconds since the epoch or a "
            "timestamp"
        )
    found = pc.fill_null(values.cast(pa.float64()), np.nan).to_numpy(zero_copy_only=False)
    seconds = found / 1e6 if pa.types.is_timestamp(kind) else found
    return np.where(np.isnan(seconds), missing, seconds)
