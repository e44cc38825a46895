"""Experts that became better or worse than expected, found from scores less expected quality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import ttest_ind

from eval.drift.adwin import Adwin, last_cut
from routers.estimators.drift import Alarm
from routers.records import Floats

Indices = npt.NDArray[np.intp]

ALL = ""
"""The slice that holds every request."""
ALARM = Alarm(slack=0.1, threshold=12.0, least_rows=30)
"""Finds a change of half a point within some 30 scores of that expert, one of a fifth within some
120; with scores of spread 0.45 that never change, one false alarm is due in some 10^5."""
_FEWEST = 5
_KEEP = 0.9999


@dataclass(frozen=True, slots=True, eq=False)
class Residuals:
    """Scored answers, in the order in which they were decided.

    Attributes:
        experts: Who answered, length N.
        slices: What each request was about (its task), None where nothing is known; length N.
        expected_N: Quality that the version which decided expected of that expert, in [0, 1].
        score_N: What it scored, in [0, 1].
        at_N: When it was decided, seconds since 1970 or any other clock.
    """

    experts: Sequence[str]
    slices: Sequence[str | None]
    expected_N: Floats
    score_N: Floats
    at_N: Floats

    def __len__(self) -> int:
        return len(self.score_N)

    def until(self, at: float) -> Residuals:
        """Those that were decided before a time."""
        rows = np.flatnonzero(self.at_N < at).tolist()
        return Residuals(
            [self.experts[row] for row in rows],
            [self.slices[row] for row in rows],
            self.expected_N[rows],
            self.score_N[rows],
            self.at_N[rows],
        )


@dataclass(frozen=True, slots=True)
class Moved:
    """One expert whose scores left what was expected of it.

    Attributes:
        expert: Who.
        slice: The task it was seen in; `ALL` when all its answers were looked at together.
        since: When the change began, as far as can be told; on the clock of `Residuals.at_N`.
        found: When it was found.
        before: Mean score less expected quality until then.
        after: The same since.
        scores: How many scores speak for `after`.
    """

    expert: str
    slice: str
    since: float
    found: float
    before: float
    after: float
    scores: int

    @property
    def sentence(self) -> str:
        where = f" on task {self.slice}" if self.slice else ""
        return (
            f"{self.expert}{where} scores {100 * (self.after - self.before):+.0f} points against "
            f"what was expected, over its last {self.scores} scores"
        )


def moved(seen: Residuals, alarm: Alarm | Adwin = ALARM) -> tuple[Moved, ...]:
    """Changes found by a test for each expert, and for each expert and slice.

    What is constantly expected wrongly is no change: the test is about the residuals' own mean.

    Args:
        seen: Scored answers.
        alarm: When a change is one: by a Page-Hinkley test, or by ADWIN.

    Returns:
        The latest change of each expert and slice, by expert, then slice.
    """
    streams: dict[tuple[str, str], list[int]] = {}
    for row, (expert, name) in enumerate(zip(seen.experts, seen.slices, strict=True)):
        streams.setdefault((expert, ALL), []).append(row)
        if name:
            streams.setdefault((expert, name), []).append(row)
    found = []
    for (expert, name), rows in sorted(streams.items()):
        if len(rows) >= alarm.least_rows:
            change = _latest(np.array(rows), seen, alarm)
            if change is not None:
                found.append(_told(expert, name, np.array(rows), change, seen))
    return tuple(found)


def moved_since(seen: Residuals, since: float, level: float = 0.01) -> tuple[str, ...]:
    """Experts whose residuals before and after a known time differ (Welch's test).

    Once something is known to have changed, others may have changed with it: an expert that is
    asked little is told of long before a sequential test of its own would find it.

    Args:
        seen: Scored answers.
        since: The time, on the clock of `Residuals.at_N`.
        level: Chance that any of the experts is named although nothing changed (Bonferroni).
    """
    names_N = np.array(seen.experts, dtype=object)
    residual_N, after_N = seen.score_N - seen.expected_N, seen.at_N >= since
    every = sorted(set(seen.experts))
    found = []
    for expert in every:
        own_N = names_N == expert
        old_R, new_R = residual_N[own_N & ~after_N], residual_N[own_N & after_N]
        if min(len(old_R), len(new_R)) >= _FEWEST and old_R.std() + new_R.std() > 0:
            p = float(ttest_ind(new_R, old_R, equal_var=False).pvalue)
            if p < level / len(every):
                found.append(expert)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Change:
    """Places within one stream: where the mean left, where it was found, where it began anew."""

    began: int
    found: int
    start: int


def _latest(rows_R: Indices, seen: Residuals, alarm: Alarm | Adwin) -> _Change | None:
    """The last change that a test finds in one stream."""
    residual_R = (seen.score_N - seen.expected_N)[rows_R]
    if isinstance(alarm, Alarm):
        return _by_page_hinkley(residual_R, alarm)
    cut = last_cut((residual_R + 1) / 2, alarm)
    return None if cut is None else _Change(cut.began, cut.found, cut.start)


def _by_page_hinkley(residual_R: Floats, alarm: Alarm) -> _Change | None:
    """The last change that a two-sided Page-Hinkley test finds.

    As `routers.estimators.drift.PageHinkley`, which keeps a step of many streams at a time; here a
    whole stream is at hand, and where its sums turned is wanted too.
    """
    latest, begin = None, 0
    while (found := _first(residual_R[begin:].tolist(), alarm)) is not None:
        place, lowest, highest = (begin + step for step in found)
        began = _began(residual_R[begin : place + 1], lowest - begin, highest - begin)
        latest = _Change(begin + max(1, began), place, begin)
        begin = place + 1
    return latest


def _first(values: list[float], alarm: Alarm) -> tuple[int, int, int] | None:
    """Where the alarm sounds, and where the sums were at their lowest and highest before."""
    mean = up = down = 0.0
    least, most, lowest, highest = float("inf"), float("-inf"), 0, 0
    for place, value in enumerate(values):
        mean += (value - mean) / (place + 1)
        up = _KEEP * up + value - mean - alarm.slack
        down = _KEEP * down + value - mean + alarm.slack
        if up <= least:
            least, lowest = up, place + 1
        if down >= most:
            most, highest = down, place + 1
        far = max(up - least, most - down)
        if far > alarm.threshold and place + 1 >= alarm.least_rows:
            return place, lowest, highest
    return None


def _began(residual_R: Floats, lowest: int, highest: int) -> int:
    """Where the sums turned: of the rise or of the fall, whichever tells the two sides apart."""

    def apart(turn: int) -> float:
        head_R, tail_R = residual_R[:turn], residual_R[turn:]
        if not len(head_R) or not len(tail_R):
            return 0.0
        return abs(float(tail_R.mean() - head_R.mean())) * float(np.sqrt(len(tail_R)))

    return max((lowest, highest), key=apart)


def _told(expert: str, name: str, rows_R: Indices, change: _Change, seen: Residuals) -> Moved:
    residual_R = (seen.score_N - seen.expected_N)[rows_R]
    at_R = seen.at_N[rows_R]
    before_R, after_R = residual_R[change.start : change.began], residual_R[change.began :]
    return Moved(
        expert,
        name,
        since=float(at_R[change.began]) if change.began < len(at_R) else float(at_R[-1]),
        found=float(at_R[change.found]),
        before=float(before_R.mean()),
        after=float(after_R.mean()) if len(after_R) else 0.0,
        scores=len(after_R),
    )
