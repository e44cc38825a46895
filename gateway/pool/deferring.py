"""Builds the rules by which drafts are judged, from the settings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

import anyio.to_thread

from experts.calculator.calculator import CalculatorExpert
from experts.cards import ExpertCard
from experts.compose.cards import Share
from experts.compose.deferral.agreement import Agreement
from experts.compose.deferral.base import Action, Deferral, Gate, Signal
from experts.compose.deferral.confidence import Confidence
from experts.compose.deferral.gates import Bernoulli, Bins, Threshold
from experts.compose.deferral.self_check import SelfCheck
from experts.compose.deferral.verified import ExactArithmetic, Verified, Verifier
from experts.compose.grouping import EXACT, NUMERIC, ByMeaning, Grouping
from gateway.pool.verifying import Checked, MeetsSchema, check_of
from gateway.settings.composed import Same
from gateway.settings.compositions import DeferSettings
from routers.encoders.lexical import HashingEncoder

if TYPE_CHECKING:
    from gateway.pool.composing import Composer

_AGREEMENT_SAMPLES, _VERDICTS = 3, 8
_DIMENSIONS = 1024


def deferral_of(entry: DeferSettings, composer: Composer, place: str) -> Deferral:
    """The rule of an entry.

    Args:
        entry: As the settings have it.
        composer: Builds the verifier, if it names one.
        place: What a verifier is called that is written in place.
    """
    gate: Gate = Threshold(entry.accept_at, entry.hopeless_below)
    if entry.actions:
        gate = Bins(tuple(Action(action) for action in entry.actions))
    elif entry.chance:
        gate = Bernoulli(composer.uniform)
    return Deferral(signal_of(entry, composer, place), gate)


def signal_of(entry: DeferSettings, composer: Composer, place: str) -> Signal:
    """What an entry has drafts judged by."""
    if entry.by == "agreement":
        samples = entry.samples or _AGREEMENT_SAMPLES
        among = [
            composer.expert(child, f"{place}/among/{number}")
            for number, child in enumerate(entry.among, 1)
        ]
        same = grouping_of(entry.same, ALIKE)
        return Agreement(samples, same, entry.temperature, tuple(among))
    if entry.by == "self_check":
        verifier = None
        if entry.verifier is not None:
            verifier = composer.expert(entry.verifier, f"{place}/verifier")
        temperature = 0.7 if entry.temperature is None else entry.temperature
        return SelfCheck(entry.samples or _VERDICTS, verifier, temperature)
    if entry.by == "arithmetic" or entry.by == "schema" or entry.by == "check":
        return Verified((_verifier(entry, composer),))
    if entry.by == "scorer":
        if entry.scorer is None:
            raise ValueError("`by: scorer` needs a scorer, which the settings see to")
        # It brings what fits it, which takes long to load.
        from gateway.pool.learned_signals import ByScorer, load_scorer

        return ByScorer(load_scorer(entry.scorer))
    return Confidence(entry.by, entry.power)


ALIKE = 0.85
_VERDICT_LENGTH = 0.3
"""How long a verdict is, beside an answer."""


def checks_of(signal: Signal, drafter: ExpertCard, drafts: float) -> list[Share]:
    """The calls that judging so many drafts takes, of whomever."""
    if isinstance(signal, SelfCheck):
        checker = drafter if signal.verifier is None else signal.verifier.card
        return [Share(checker, drafts * signal.samples, reads=1, writes=_VERDICT_LENGTH)]
    again = [Share(drafter, drafts * signal.calls)] if signal.calls else []
    if isinstance(signal, Agreement):
        again += [Share(each.card, drafts * signal.samples) for each in signal.among]
    return again


def grouping_of(same: Same, alike: float) -> Grouping:
    """Which answers are the same."""
    if same == "meaning":
        return ByMeaning(_encode(), alike)
    return NUMERIC if same == "numeric" else EXACT


def _verifier(entry: DeferSettings, composer: Composer) -> Verifier:
    if entry.check is not None:
        return Checked(check_of(entry.check, composer.code))
    if entry.by == "schema":
        return MeetsSchema()
    return _exact_arithmetic()


@cache
def _exact_arithmetic() -> ExactArithmetic:
    # It reads a list of units, which takes a moment.
    return ExactArithmetic(CalculatorExpert(ExpertCard("calculator")))


def _encode() -> Callable[[Sequence[str]], Awaitable[Sequence[Sequence[float]]]]:
    encoder = HashingEncoder(_DIMENSIONS)

    async def encode(texts: Sequence[str]) -> Sequence[Sequence[float]]:
        vectors_ND = await anyio.to_thread.run_sync(encoder.encode, texts)
        found: list[list[float]] = vectors_ND.tolist()
        return found

    return encode
