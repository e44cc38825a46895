"""Has what is asked changed? A bet, prompt by prompt, that newer ones are unlike older ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from routers.records import Floats

Vectors = npt.NDArray[np.float32]

_STAKES = np.array([0.05, 0.1, 0.2, 0.4, 0.8])
_RECENT = 60
_FEWEST = 10
_WITNESSES = 4
_KEEP = 0.99
_CALM = 1.5


@dataclass(frozen=True, slots=True)
class Shifted:
    """Where prompts left what they were.

    Attributes:
        since: Place of the first prompt of the new kind, as far as can be told.
        found: Place at which it could be told.
    """

    since: int
    found: int


def pairs_of(older: int) -> int:
    """How many newer prompts can be compared with so many older ones."""
    return older - len(range(0, older, _WITNESSES))


def shifted(
    before_RD: Vectors, after_ND: Vectors, rng: np.random.Generator, alarm_every: float = 1e5
) -> Shifted | None:
    r"""The first place at which newer prompts are told from older ones; None if nowhere.

    Each newer prompt is paired with an older one. A witness, which has seen other older prompts and
    only what came before, says of the two how much each resembles the newest prompts more than the
    older ones, and bets that the newer one does so more:

    .. math:: L_t = 1 + \lambda \tanh\frac{f_t(x_t) - f_t(r_t)}{s_t}, \quad
        M_t = (1 + M_{t-1}) L_t

    While nothing has changed, the two may as well be swapped: no bet has an advantage, and it takes
    `alarm_every` prompts or more, on average, until M reaches that number. M is the mean over
    several stakes. The witness is that of the maximum mean discrepancy, with a Gaussian kernel of
    median width.

    All of that is for prompts that are independent of each other: give it one of a conversation.

    Args:
        before_RD: Vectors of older prompts.
        after_ND: Vectors of newer ones, in their order, N <= `pairs_of(R)`.
        rng: Pairs them.
        alarm_every: How rare false alarms are, > 1.

    Raises:
        ValueError: Fewer than 20 older prompts, or more newer ones than there are pairs for.

    Source: Shekhar & Ramdas, "Nonparametric Two-Sample Testing by Betting", 2021; Shin, Ramdas &
    Rinaldo, "E-detectors: a Nonparametric Framework for Sequential Change Detection", 2022.
    """
    older, newer = len(before_RD), len(after_ND)
    if older < 2 * _FEWEST or newer > pairs_of(older):
        raise ValueError(f"{older} older prompts are too few to compare {newer} with")
    if not newer:
        return None
    mixed_RD = before_RD[rng.permutation(older)]
    seen_N = np.arange(older) % _WITNESSES == 0
    bet_N = _bets(_told_apart(mixed_RD[seen_N], mixed_RD[~seen_N][:newer], after_ND))
    grown_NS = 1 + _STAKES * bet_N[:, None]
    wealth_S = np.zeros(len(_STAKES))
    for place, grown_S in enumerate(grown_NS):
        wealth_S = (1 + wealth_S) * grown_S
        if wealth_S.mean() >= alarm_every:
            best_N = np.log(grown_NS[: place + 1, int(wealth_S.argmax())])
            before_N = np.concatenate([[0.0], np.cumsum(best_N)[:-1]])
            return Shifted(int(before_N.argmin()), place)
    return None


def _told_apart(witness_WD: Vectors, pair_ND: Vectors, after_ND: Vectors) -> Floats:
    """How much more each newer prompt than its pair resembles the newest before it, length N."""
    width = _width(witness_WD)
    count = len(after_ND)

    def resembles_newest(prompt_ND: Vectors) -> Floats:
        kernel_NN = _kernel(prompt_ND, after_ND, width)
        upto_NN = np.concatenate([np.zeros((count, 1)), np.cumsum(kernel_NN, axis=1)], axis=1)
        place_N = np.arange(count)
        first_N = np.maximum(0, place_N - _RECENT)
        newest_N = upto_NN[place_N, place_N] - upto_NN[place_N, first_N]
        older_N = _kernel(prompt_ND, witness_WD, width).mean(axis=1)
        return np.asarray(newest_N / np.maximum(place_N - first_N, 1) - older_N)

    return resembles_newest(after_ND) - resembles_newest(pair_ND)


def _bets(gain_N: Floats) -> Floats:
    """Each gain by what gains were like before it, in (-1, 1)."""
    bet_N = np.zeros(len(gain_N))
    total = weight = 0.0
    for place, gain in enumerate(gain_N.tolist()):
        if place >= _FEWEST and total > 0:
            bet_N[place] = np.tanh(gain * weight / (_CALM * total))
        total, weight = _KEEP * total + abs(gain), _KEEP * weight + 1
    return bet_N


def _kernel(one_ND: Vectors, other_MD: Vectors, width: float) -> Floats:
    return np.asarray(np.exp(-_squares(one_ND, other_MD) / width), dtype=np.float64)


def _width(witness_WD: Vectors) -> float:
    some_WD = witness_WD[:200]
    apart = _squares(some_WD, some_WD)[np.triu_indices(len(some_WD), 1)]
    return float(np.median(apart)) or 1.0


def _squares(one_ND: Vectors, other_MD: Vectors) -> Floats:
    one_N1, other_M = (one_ND**2).sum(axis=1)[:, None], (other_MD**2).sum(axis=1)
    return np.asarray(np.maximum(one_N1 + other_M - 2 * one_ND @ other_MD.T, 0.0))
