"""A wrapper that asks about parts of a text too, so that what is put before it decides little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from routers.base import Estimator
from routers.errors import RoutingError
from routers.records import Estimates, FeatureBatch, Floats, OutcomeTable, State
from routers.registry import DEFAULT_ESTIMATOR, estimator_class, make_estimator
from routers.storage.states import join_states, part_state

_CUT = 0.15
# Known gadgets have a dozen words, which is more than 15 % of most questions.
_FEWEST_CUT = 90
_MOST_CUT = 0.5


class RobustEstimator:
    """The median of what is expected of a text without its start, without its end, without both.

    A few words put before any request, found by trial, can send it to an expert of the attacker's
    choice. They are in one of the three readings only, so the median ignores what they do. At each
    end 15 % of the text is left out, or 90 characters where these are at most half of it. In a text
    that is too short to lose both ends, the reading without its start counts twice: words put
    after a short text still decide. (A vote of the whole text and of the text without either end
    has the added words in two readings of three: its median is theirs.)

    It reads each text up to four times, so a decision takes three to four times as long.

    Args:
        inner: The estimator to wrap, unfitted; None takes the default one.

    Source: after Shafran et al., "Rerouting LLM Routers", 2025, who describe the attack.
    """

    name = "robust"

    def __init__(self, inner: Estimator | None = None) -> None:
        self.inner = inner or make_estimator(DEFAULT_ESTIMATOR)

    def fit(self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator) -> Self:
        return type(self)(self.inner.fit(features, table, rng))

    def predict(self, features: FeatureBatch) -> Estimates:
        """As for any estimator.

        Raises:
            RoutingError: The features don't say how texts are encoded; `Featurizer`'s do.
        """
        if features.encode is None:
            raise RoutingError(
                "a robust estimator reads parts of the texts: it needs features from a Featurizer"
            )
        whole = self.inner.predict(features)
        encode = features.encode
        readings = [self.inner.predict(encode(texts)) for texts in _readings(features.texts)]
        return Estimates(
            whole.experts,
            _median([each.quality_NA for each in readings]),
            _median([each.stderr_NA for each in readings]),
            whole.output_tokens_NA,
            whole.latency_s_NA,
            unfamiliar_N=whole.unfamiliar_N,
        )

    def state(self) -> State:
        return join_states(({"kind": self.inner.name}, {}), {"inner": self.inner.state()})

    @classmethod
    def from_state(cls, state: State) -> Self:
        return cls(estimator_class(state[0]["kind"]).from_state(part_state(state, "inner")))


def _readings(texts: Sequence[str]) -> list[list[str]]:
    """The texts without their start, without their end, and without both where that leaves any."""
    cuts = [max(int(_CUT * len(text)), _bounded(len(text))) for text in texts]
    pairs = list(zip(texts, cuts, strict=True))
    without_start = [text[cut:] for text, cut in pairs]
    without_end = [text[: len(text) - cut] for text, cut in pairs]
    middle = [
        text[cut : len(text) - cut] if len(text) >= 3 * cut else text[cut:] for text, cut in pairs
    ]
    return [without_start, without_end, middle]


def _bounded(length: int) -> int:
    return min(_FEWEST_CUT, int(_MOST_CUT * length))


def _median(parts: Sequence[Floats]) -> Floats:
    # Of three, without sorting: np.median takes ten times as long for one request.
    first, second, third = parts
    low, high = np.minimum(first, second), np.maximum(first, second)
    median: Floats = np.maximum(low, np.minimum(high, third))
    return median
