"""How sure a model was of its own words: from the log-probabilities of the tokens it chose."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from experts.base import Call
from experts.compose.base import ChildRequest, Reply
from experts.compose.deferral.base import SignalResult
from experts.messages import ChatRequest, Json

Kind = Literal["logprob", "margin", "entropy", "dispersion"]
_TOP = 5
"""Alternatives per token that are asked for."""


@dataclass(frozen=True, slots=True)
class Confidence:
    """The mean over a draft's tokens of one measure of certainty.

    Attributes:
        kind: `logprob`: exp of the mean log-probability, so the geometric mean of the tokens'
            probabilities. `margin`: probability of the token chosen minus that of the best other
            one. `entropy`: 1 - H(p)/log n over the n alternatives told. `dispersion`: Mowst's
            variance of p over that of certainty. All in [0, 1].
        power: The score is raised to it, > 0 (Mowst's alpha).

    Sources: `logprob` as in C. Chen et al., "FrugalGPT"'s successors on cascades by sequence
    probability (N. Gupta et al., "Language Model Cascades: Token-level uncertainty and beyond",
    2024); `entropy` and `dispersion` from H. Zeng et al., "Mowst", 2024.
    """

    kind: Kind = "logprob"
    power: float = 1.0

    @property
    def calls(self) -> float:
        return 0.0

    def asks(self, request: ChatRequest) -> ChatRequest:
        wanted: dict[str, Any] = {**request.params, "logprobs": True}
        if self.kind != "logprob":
            wanted["top_logprobs"] = max(int(request.params.get("top_logprobs") or 0), _TOP)
        return replace(request, params=wanted)

    async def measure(
        self, request: ChatRequest, reply: Reply, asked: ChildRequest, call: Call
    ) -> SignalResult:
        choices = reply.completion.choices
        tokens = tokens_of(choices[0].logprobs) if choices else []
        return SignalResult(confidence(tokens, self.kind, self.power))


def tokens_of(logprobs: Json | None) -> list[Json]:
    """The tokens that a provider's `logprobs` object tells of, in order."""
    return _known((logprobs or {}).get("content") or [])


def confidence(tokens: Sequence[Json], kind: Kind, power: float = 1.0) -> float | None:
    """See `Confidence`; None without tokens."""
    if not tokens:
        return None
    if kind == "logprob":
        mean = sum(min(float(token["logprob"]), 0.0) for token in tokens) / len(tokens)
        return math.exp(power * mean)
    measure = _MEASURES[kind]
    total = sum(measure(_alternatives(token)) for token in tokens)
    return math.pow(max(0.0, min(total / len(tokens), 1.0)), power)


def margin(probabilities: Sequence[float]) -> float:
    """The largest probability minus the second largest."""
    first, second = [*sorted(probabilities, reverse=True), 0.0][:2]
    return first - second


def certainty(probabilities: Sequence[float]) -> float:
    """1 - H(p)/log n of probabilities that sum to 1: 1 if one has all, 0 if all have the same."""
    if len(probabilities) < 2:
        return 1.0
    entropy = -sum(p * math.log(p) for p in probabilities if p > 0)
    return 1 - entropy / math.log(len(probabilities))


def dispersion(probabilities: Sequence[float]) -> float:
    """var(p) / var(one-hot) of probabilities that sum to 1: 1 if one has all, 0 if all the same."""
    count = len(probabilities)
    if count < 2:
        return 1.0
    variance = sum((p - 1 / count) ** 2 for p in probabilities)
    return variance / (1 - 1 / count)


_MEASURES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "margin": margin,
    "entropy": certainty,
    "dispersion": dispersion,
}


def _known(tokens: Sequence[Json]) -> list[Json]:
    """Those whose log-probability is told; some servers have null where it is 0 or no number."""
    return [
        token
        for token in tokens
        if isinstance(token.get("logprob"), int | float) and not math.isnan(token["logprob"])
    ]


def _alternatives(token: Json) -> list[float]:
    """Probabilities of a token and its alternatives, as shares of what was told."""
    told = _known(token.get("top_logprobs") or []) or [token]
    found = [math.exp(min(float(each["logprob"]), 0.0)) for each in told]
    total = sum(found)
    return [p / total for p in found] if total > 0 else [1.0]
