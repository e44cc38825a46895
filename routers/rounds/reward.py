"""What a transcript of rounds is worth: format, outcome and cost, one above the other.

As published in Router-R1 (Zhang, Feng and You 2025, https://arxiv.org/abs/2506.09033): a transcript
that breaks the format is worth −1 whatever it says, a wrong answer 0 whatever it cost, and a right
one (1 − α)·s + α·c̄, where s scores the answer and c̄ says how cheap it was among the latest.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from experts.compose.rounds.grammar import (
    PUBLISHED,
    Answered,
    FormatFault,
    Words,
    fault_of,
    read_turn,
)
from routers.rounds.squad import exact_match

Outcome = Callable[[str, Sequence[str]], float]
"""Scores an answer against those accepted, in [0, 1]."""
_LATEST = 1000
_UNKNOWN = 0.5


@dataclass(frozen=True, slots=True)
class Paid:
    """One call of an expert.

    Attributes:
        completion_tokens: Tokens that it wrote; those it read are not charged, as published.
        usd_per_mtok: Its price of a million of them.
    """

    completion_tokens: int
    usd_per_mtok: float

    @property
    def usd(self) -> float:
        return self.completion_tokens * self.usd_per_mtok / 1e6


@dataclass(slots=True)
class CostNormaliser:
    """Says how cheap a cost is among the latest ones. Its state is its own: keep one per tenant.

    The square root of each cost goes into a window; the 5 % and 95 % quantiles of the window are
    the ends of the scale.

    Attributes:
        latest: Square roots of costs, oldest first.
    """

    latest: deque[float] = field(default_factory=lambda: deque(maxlen=_LATEST))

    def observe(self, cost_usd: float) -> None:
        """Take one more cost, in dollars, into the window.

        Raises:
            ValueError: It is negative or no number.
        """
        if not 0 <= cost_usd < math.inf:
            raise ValueError(f"a cost is a finite number of dollars >= 0, got {cost_usd!r}")
        self.latest.append(math.sqrt(cost_usd))

    def quantiles(self) -> tuple[float, float] | None:
        """The ends of the scale, in square roots of dollars; None while nothing was observed."""
        if not self.latest:
            return None
        low, high = np.quantile(np.fromiter(self.latest, dtype=np.float64), (0.05, 0.95))
        return float(low), float(high)

    def cheapness(self, cost_usd: float) -> float:
        """In [0, 1], 1 is cheapest; 0.5 while the window holds no two costs to tell apart."""
        ends = self.quantiles()
        if ends is None or ends[1] <= ends[0]:
            return _UNKNOWN
        place = (math.sqrt(cost_usd) - ends[0]) / (ends[1] - ends[0])
        return 1.0 - min(max(place, 0.0), 1.0)


@dataclass(frozen=True, slots=True)
class Reward:
    """A transcript's worth and what it was made of.

    Attributes:
        reward: −1 or in [0, 1]; also in [−charge, 0) where wrong answers are charged.
        fault: How the format was broken; None: it was not.
        outcome: Score of the answer in [0, 1]; 0 without one.
        cost_usd: What the experts' words cost.
        cheapness: In [0, 1], 1 is cheapest.
    """

    reward: float
    fault: FormatFault | None
    outcome: float
    cost_usd: float
    cheapness: float


@dataclass(frozen=True, slots=True)
class RewardRule:
    """How format, outcome and cost become one number.

    Args:
        alpha: Weight of the cost on right answers, in [0, 1].
        outcome: What the answer is scored by.
        words: How the tags are called.
        colons: Whether a colon within a query breaks the format, as published.
        charge: What a wrong answer costs: it is worth −charge·(1 − c̄), in [0, 1). 0 as published,
            where a wrong answer is as good as any other however much was spent on it, so that
            nothing teaches to give up cheaply.

    Raises:
        ValueError: `alpha` or `charge` is out of range.
    """

    alpha: float = 0.0
    outcome: Outcome = exact_match
    words: Words = PUBLISHED
    colons: bool = True
    charge: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must be in [0, 1], got {self.alpha!r}")
        if not 0 <= self.charge < 1:
            raise ValueError(f"charge must be in [0, 1), got {self.charge!r}")

    def judge(
        self,
        transcript: str,
        accepted: Sequence[str],
        paid: Sequence[Paid],
        pool: Collection[str],
        normaliser: CostNormaliser,
    ) -> Reward:
        """The worth of one transcript; its cost is taken into the window first.

        Args:
            transcript: All that was written after the prompt, information included.
            accepted: Right answers.
            paid: The calls that were made.
            pool: Ids of the experts that could be asked, in any order.
            normaliser: Where the latest costs are.
        """
        cost_usd = sum(call.usd for call in paid)
        normaliser.observe(cost_usd)
        cheapness = normaliser.cheapness(cost_usd)
        fault = fault_of(transcript, pool, self.words, colons=self.colons)
        said = _answer(transcript, self.words)
        outcome = 0.0 if said is None else self.outcome(said, accepted)
        reward = -1.0 if fault else self._reward(outcome, cheapness)
        return Reward(reward, fault, outcome, cost_usd, cheapness)

    def _reward(self, outcome: float, cheapness: float) -> float:
        if outcome == 0:
            return -self.charge * (1.0 - cheapness)
        return (1.0 - self.alpha) * outcome + self.alpha * cheapness


def _answer(transcript: str, words: Words) -> str | None:
    start = transcript.rfind(f"<{words.answer}>")
    turn = read_turn(transcript[start:], words) if start >= 0 else None
    return turn.text if isinstance(turn, Answered) else None
