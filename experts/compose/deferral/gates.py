"""What follows from a score: thresholds, a table of bins, or chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from experts.compose.deferral.base import Action, Ruling


@dataclass(frozen=True, slots=True)
class Threshold:
    """Accepts from `accept_at` on, and calls hopeless what is below `hopeless_below`.

    Attributes:
        accept_at: In [0, 1].
        hopeless_below: In [0, `accept_at`]; 0 calls nothing hopeless.
    """

    accept_at: float
    hopeless_below: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.hopeless_below <= self.accept_at <= 1:
            raise ValueError(
                "thresholds must be 0 <= hopeless_below <= accept_at <= 1, got "
                f"{self.hopeless_below!r} and {self.accept_at!r}"
            )

    def decide(self, score: float) -> Ruling:
        if score >= self.accept_at:
            return Ruling(Action.ACCEPT)
        return Ruling(Action.HOPELESS if score < self.hopeless_below else Action.DEFER)


@dataclass(frozen=True, slots=True)
class Bins:
    """One action per bin of scores, which is how AutoMix's POMDP comes out.

    Attributes:
        actions: Of bins of equal width over [0, 1], lowest first; never empty.

    Source: P. Aggarwal, A. Madaan et al., "AutoMix: Automatically Mixing Language Models", 2023.
    """

    actions: Sequence[Action]

    def __post_init__(self) -> None:
        if not self.actions:
            raise ValueError("a table of bins needs at least one action")

    def decide(self, score: float) -> Ruling:
        last = len(self.actions) - 1
        return Ruling(self.actions[min(int(score * len(self.actions)), last)])


@dataclass(frozen=True, slots=True)
class Bernoulli:
    """Accepts with the score's own probability, and says which it was.

    What is logged so can be judged afterwards by its propensity, under any other gate.

    Attributes:
        uniform: Draws a number from [0, 1).
        floor: The least probability of either action, in [0, 0.5], whatever the score.

    Source: H. Zeng et al., "Mixture of Weak & Strong Experts on Graphs" (Mowst), 2024.
    """

    uniform: Callable[[], float]
    floor: float = 0.0

    def decide(self, score: float) -> Ruling:
        accepts = min(max(score, self.floor), 1 - self.floor)
        if self.uniform() < accepts:
            return Ruling(Action.ACCEPT, accepts)
        return Ruling(Action.DEFER, 1 - accepts)
