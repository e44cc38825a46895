"""What judges are asked and how their words are read: by a rubric, by several, or of a pair."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

import anyio.to_thread

from eval.judging.rubric import (
    new_fence,
    pair_prompt,
    read_better,
    read_score,
    read_scores,
    rubric_prompt,
    settled,
    several_prompt,
)
from gateway.ledger.rows import Row
from gateway.outcomes.ended import Ended, Scored
from gateway.settings.outcomes import JudgeSettings
from routers.errors import ArtifactError
from routers.features import estimate_tokens

if TYPE_CHECKING:
    from eval.judging.fitted import FittedGate

_log = logging.getLogger(__name__)
Texts = tuple[str, str]
"""System and user text."""


class Way(Protocol):
    """One way to ask a judge."""

    needs_pair: ClassVar[bool]

    def prompts(self, conversation: str, ended: Ended) -> list[Texts]:
        """What to ask of an answer, in this order."""
        ...

    async def rows(self, words: Sequence[str], ended: Ended, source: str) -> list[Row]:
        """What was said as scores, one text per prompt; none where it can't be read."""
        ...


def way_of(settings: JudgeSettings, gates: Path) -> Way:
    """How a judge is asked.

    Args:
        settings: Its own.
        gates: Where fitted gates are, by the names of judges.
    """
    if settings.how == "pair":
        return ByPair(settings.rubric, settings.scores)
    if settings.objectives:
        return ByObjectives(settings.objectives, settings.scores, _gate(settings, gates))
    return ByRubric(settings.rubric, settings.scores)


class ByRubric:
    """One score of one answer."""

    needs_pair: ClassVar[bool] = False

    def __init__(self, rubric: str, objective: str) -> None:
        self._rubric = rubric
        self._objective = objective

    def prompts(self, conversation: str, ended: Ended) -> list[Texts]:
        return [rubric_prompt(self._rubric, conversation, ended.text, new_fence())]

    async def rows(self, words: Sequence[str], ended: Ended, source: str) -> list[Row]:
        score = read_score(words[0])
        return [] if score is None else [ended.scored.row(self._objective, score, source)]


class ByPair:
    """What a shadow call gave against what was delivered, asked in both orders.

    The shadow's answer scores 1 where it is preferred in both, 0 where the other is, else 0.5; the
    delivered answer scores the rest.
    """

    needs_pair: ClassVar[bool] = True

    def __init__(self, rubric: str, objective: str) -> None:
        self._rubric = rubric
        self._objective = objective

    def prompts(self, conversation: str, ended: Ended) -> list[Texts]:
        return [
            pair_prompt(self._rubric, conversation, first, second, new_fence())
            for first, second in (
                (ended.text, ended.served or ""),
                (ended.served or "", ended.text),
            )
        ]

    async def rows(self, words: Sequence[str], ended: Ended, source: str) -> list[Row]:
        forward, backward = (read_better(said) for said in words)
        score = settled(forward, backward)
        if score is None:
            return []
        told = f"{forward} and {backward} in the two orders"
        delivered = Scored(ended.decision_id)
        return [
            ended.scored.row(self._objective, score, source, f"against what was delivered: {told}"),
            delivered.row(
                self._objective, 1 - score, source, f"against shadow call {ended.shadow_id}: {told}"
            ),
        ]


class ByObjectives:
    """A score for each of several objectives, and one of all of them once a gate is fitted."""

    needs_pair: ClassVar[bool] = False

    def __init__(self, rubrics: Mapping[str, str], objective: str, gate: FittedGate | None) -> None:
        self._rubrics = rubrics
        self._objective = objective
        self._gate = gate

    def prompts(self, conversation: str, ended: Ended) -> list[Texts]:
        return [several_prompt(self._rubrics, conversation, ended.text, new_fence())]

    async def rows(self, words: Sequence[str], ended: Ended, source: str) -> list[Row]:
        scores = read_scores(words[0], tuple(self._rubrics))
        if scores is None:
            return []
        rows = [ended.scored.row(name, score, source) for name, score in scores.items()]
        if (gate := self._gate) is not None:
            prompt, length = ended.ask.request.text, estimate_tokens(ended.text)
            # Encoding a prompt may take milliseconds.
            judged = await anyio.to_thread.run_sync(gate.judge, prompt, scores, length)
            rows.append(ended.scored.row(self._objective, judged.score, source, judged.told))
        return rows


def gate_file(gates: Path, judge: str) -> Path:
    """Where the fitted gate of a judge is."""
    return gates / f"{judge}.safetensors"


def _gate(settings: JudgeSettings, gates: Path) -> FittedGate | None:
    file = gate_file(gates, settings.name)
    if not file.exists():
        return None
    # What fits gates takes a moment to load.
    from eval.judging.fitted import FittedGate

    try:
        gate = FittedGate.load(file)
    except ArtifactError as error:
        _log.error("judge %s scores without its gate: %s", settings.name, error)
        return None
    if set(gate.objectives) != set(settings.objectives):
        wanted = ", ".join(gate.objectives)
        _log.error("judge %s scores without its gate, which is of %s", settings.name, wanted)
        return None
    return gate
