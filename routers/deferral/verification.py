"""AutoMix: what to do with a draft, by the share of self-checks that called it right.

A draft that is wrong is only worth passing on when the dearer expert would be right: the state that
AutoMix calls NEEDY. A HOPELESS one, which nobody gets right, is kept, because deferring it buys
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from routers.errors import TableError
from routers.records import Floats

BINS = 8
GOOD, NEEDY, HOPELESS = 0, 1, 2
_SMOOTHING = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class CheckedDrafts:
    """Drafts of a small expert that were checked, and what a large one makes of the request.

    Attributes:
        share_N: Share of the checks that called the draft right, in [0, 1].
        small_N: Score of the draft, in [0, 1].
        large_N: Score of the large expert's answer.
        small_usd: Mean dollars of a draft.
        check_usd: Mean dollars of its checks.
        large_usd: Mean dollars of the large expert's answer, more than a draft's.
    """

    share_N: Floats
    small_N: Floats
    large_N: Floats
    small_usd: float
    check_usd: float
    large_usd: float

    def __post_init__(self) -> None:
        if not len(self.share_N):
            raise TableError("no checked draft is known, so no meta-verifier can be fitted")


@dataclass(frozen=True, slots=True)
class MetaVerifier:
    """What is done with a draft, by the bin of its share of approvals.

    Attributes:
        kind: `threshold`, `double` or `pomdp`.
        defer: For each of the bins, from no approval to all, whether the draft is passed on.
        hopeless: For each of the bins, whether a draft that is kept there is given up as hopeless.
        lift: IBC-lift where it was chosen.
    """

    kind: str
    defer: tuple[bool, ...]
    hopeless: tuple[bool, ...]
    lift: float

    @property
    def actions(self) -> tuple[str, ...]:
        """`accept`, `defer` or `hopeless` for each of the bins, as a cascade's `actions` has it."""
        return tuple(
            "defer" if up else "hopeless" if lost else "accept"
            for up, lost in zip(self.defer, self.hopeless, strict=True)
        )

    def defers(self, share_N: Floats) -> npt.NDArray[np.bool_]:
        """Whether each draft is passed on, shape (N,)."""
        return np.array(self.defer)[bin_of(share_N, len(self.defer))]


def bin_of(share_N: Floats, bins: int = BINS) -> npt.NDArray[np.intp]:
    """The bin of a share in [0, 1], 0 to bins - 1."""
    return np.clip((share_N * bins).astype(np.intp), 0, bins - 1)


def ibc_lift(checked: CheckedDrafts, deferred_N: npt.NDArray[np.bool_]) -> float:
    """Quality per dollar on top of the small expert, against going to the large one always.

    (slope - slope of the large expert) / slope of the large expert, slope being quality gained over
    the small expert divided by dollars spent on top of it; the checks are paid by the rule alone.

    Raises:
        TableError: The large expert is no better than the small one, or no dearer.

    Source: Aggarwal et al., "AutoMix", 2023.
    """
    gain = float((checked.large_N - checked.small_N).mean())
    if not (gain > 0 and checked.large_usd > checked.small_usd):
        raise TableError(
            "the large expert is no better than the small one on these requests, or no dearer, so "
            "there is nothing to weigh"
        )
    whole = gain / (checked.large_usd - checked.small_usd)
    return (_slope(checked, deferred_N) - whole) / whole


def fit_meta_verifier(
    checked: CheckedDrafts,
    *,
    kinds: Iterable[str] = ("threshold", "double", "pomdp"),
    least_deferred: float = 0.05,
    worth_usd: float | None = None,
    bins: int = BINS,
) -> MetaVerifier:
    """The best rule on these drafts, of all kinds asked for.

    The union of all kinds is what is searched, so the outcome is never worse than the best single
    threshold by what it is chosen by.

    Args:
        checked: Logged drafts.
        kinds: Which rules may be chosen.
        least_deferred: Rules that defer a smaller share than this don't count, since the lift of a
            handful of drafts is mostly luck.
        worth_usd: Dollars that a right answer is worth: the rule of highest quality · worth − cost
            is chosen; None chooses by IBC-lift.
        bins: How many.

    Raises:
        TableError: The large expert is no better, or no draft is known.
    """
    bin_N = bin_of(checked.share_N, bins)
    ibc_lift(checked, np.ones(len(bin_N), dtype=bool))
    chances_BS = state_chances(checked, bins)
    best: tuple[float, MetaVerifier] | None = None
    for kind in kinds:
        for defer in _RULES[kind](chances_BS, checked):
            deferred_N = np.array(defer)[bin_N]
            if worth_usd is None and deferred_N.mean() < least_deferred:
                continue
            lift = ibc_lift(checked, deferred_N)
            value = lift if worth_usd is None else _value(checked, deferred_N, worth_usd)
            if best is None or value > best[0]:
                best = value, MetaVerifier(kind, defer, _given_up(chances_BS, defer), lift)
    if best is None:
        raise TableError("no rule defers enough drafts to be judged")
    return best[1]


def state_chances(checked: CheckedDrafts, bins: int = BINS) -> Floats:
    """P(state | bin) with states GOOD, NEEDY, HOPELESS, shape (bins, 3).

    One pseudo-count per bin is spread as the states are over all drafts.
    """
    good_N = checked.small_N
    needy_N = (1 - checked.small_N) * checked.large_N
    states_NS = np.stack([good_N, needy_N, 1 - good_N - needy_N], axis=1)
    counts_BS = np.zeros((bins, 3))
    np.add.at(counts_BS, bin_of(checked.share_N, bins), states_NS)
    counts_BS += _SMOOTHING * states_NS.mean(axis=0)
    chances_BS: Floats = counts_BS / counts_BS.sum(axis=1, keepdims=True)
    return chances_BS


def _thresholds(chances_BS: Floats, checked: CheckedDrafts) -> Iterable[tuple[bool, ...]]:
    bins = len(chances_BS)
    for end in range(1, bins + 1):
        yield tuple(place < end for place in range(bins))


def _doubles(chances_BS: Floats, checked: CheckedDrafts) -> Iterable[tuple[bool, ...]]:
    bins = len(chances_BS)
    for start in range(1, bins):
        for end in range(start + 1, bins + 1):
            yield tuple(start <= place < end for place in range(bins))


def _pomdp(chances_BS: Floats, checked: CheckedDrafts) -> Iterable[tuple[bool, ...]]:
    """Deferring is worth P(NEEDY | bin) − P(lost | bin) answers; all prices of it are tried.

    What deferring loses are drafts that were right where the large expert is wrong.
    """
    bins = len(chances_BS)
    lost_B, seen_B = np.zeros(bins), np.zeros(bins)
    bin_N = bin_of(checked.share_N, bins)
    np.add.at(lost_B, bin_N, checked.small_N * (1 - checked.large_N))
    np.add.at(seen_B, bin_N, 1.0)
    gain_B = chances_BS[:, NEEDY] - lost_B / (seen_B + _SMOOTHING)
    for price in np.unique(gain_B):
        yield tuple((gain_B >= price).tolist())


_RULES = {"threshold": _thresholds, "double": _doubles, "pomdp": _pomdp}


def _given_up(chances_BS: Floats, defer: tuple[bool, ...]) -> tuple[bool, ...]:
    worst_B = chances_BS.argmax(axis=1) == HOPELESS
    return tuple(bool(worst) and not up for worst, up in zip(worst_B, defer, strict=True))


def _value(checked: CheckedDrafts, deferred_N: npt.NDArray[np.bool_], worth_usd: float) -> float:
    quality = np.where(deferred_N, checked.large_N, checked.small_N).mean()
    return float(quality * worth_usd - deferred_N.mean() * checked.large_usd)


def _slope(checked: CheckedDrafts, deferred_N: npt.NDArray[np.bool_]) -> float:
    gain = float((deferred_N * (checked.large_N - checked.small_N)).mean())
    spent = checked.check_usd + float(deferred_N.mean()) * checked.large_usd
    return gain / spent if spent > 0 else 0.0
