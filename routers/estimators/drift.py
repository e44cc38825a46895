"""Page-Hinkley tests, one per expert: has the mean of what is watched moved?"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import numpy.typing as npt

from routers.records import Floats

Indices = npt.NDArray[np.intp]

_KEEP = 0.9999


@dataclass(frozen=True, slots=True)
class Alarm:
    """When a change of mean is one.

    Attributes:
        slack: Changes smaller than this are let pass, >= 0, in units of what is watched.
        threshold: How far the summed deviations must rise or fall, > 0.
        least_rows: No alarm before so many values.
    """

    slack: float = 0.05
    threshold: float = 20.0
    least_rows: int = 30


@dataclass(frozen=True, slots=True, eq=False)
class PageHinkley:
    r"""Two-sided Page-Hinkley tests of A streams, each advancing when it has a value.

    .. math:: U_t = \alpha U_{t-1} + x_t - \bar x_t - \delta, \quad
        D_t = \alpha D_{t-1} + x_t - \bar x_t + \delta

    The alarm sounds when U has risen from its lowest or D has fallen from its highest by more than
    the threshold; that stream then starts afresh. Kept as arrays, since an artifact holds nothing
    else: the detectors of the library river can only be pickled.

    Attributes:
        rows_A: Values since the start.
        mean_A: Their mean.
        up_A, down_A: U and D.
        lowest_A, highest_A: Their extremes so far.

    Source: Page, "Continuous Inspection Schemes", 1954; Sebastião & Fernandes, "Supporting the
    Page-Hinkley Test with Empirical Mode Decomposition for Change Detection", 2017.
    """

    rows_A: Floats
    mean_A: Floats
    up_A: Floats
    down_A: Floats
    lowest_A: Floats
    highest_A: Floats

    @classmethod
    def fresh(cls, streams: int) -> Self:
        rows_A, mean_A, up_A, down_A = np.zeros((4, streams))
        lowest_A, highest_A = np.full(streams, np.inf), np.full(streams, -1.0)
        return cls(rows_A, mean_A, up_A, down_A, lowest_A, highest_A)

    def copy(self) -> Self:
        return type(self)(*(getattr(self, name).copy() for name in _FIELDS))

    def watch(self, streams: Indices, values: Floats, alarm: Alarm) -> Indices:
        """Take one value of each of some streams, in place.

        Args:
            streams: Which, without repeats.
            values: Their values, in that order.
            alarm: When it sounds.

        Returns:
            The streams whose mean has moved.
        """
        self.rows_A[streams] += 1
        self.mean_A[streams] += (values - self.mean_A[streams]) / self.rows_A[streams]
        off = values - self.mean_A[streams]
        self.up_A[streams] = up = _KEEP * self.up_A[streams] + off - alarm.slack
        self.down_A[streams] = down = _KEEP * self.down_A[streams] + off + alarm.slack
        self.lowest_A[streams] = lowest = np.minimum(self.lowest_A[streams], up)
        self.highest_A[streams] = highest = np.maximum(self.highest_A[streams], down)
        far = np.maximum(up - lowest, highest - down) > alarm.threshold
        moved = streams[far & (self.rows_A[streams] >= alarm.least_rows)]
        self._restart(moved)
        return moved

    def arrays(self) -> dict[str, Floats]:
        return {name: getattr(self, name) for name in _FIELDS}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Floats]) -> Self:
        return cls(*(arrays[name] for name in _FIELDS))

    def _restart(self, streams: Indices) -> None:
        for name in ("rows_A", "mean_A", "up_A", "down_A"):
            getattr(self, name)[streams] = 0.0
        self.lowest_A[streams], self.highest_A[streams] = np.inf, -1.0


_FIELDS = tuple(field.name for field in fields(PageHinkley))
