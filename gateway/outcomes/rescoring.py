"""What a judge's logged scores are worth: free of length, and of several objectives one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from eval.errors import ComparisonError
from eval.judging.debias import debiased, length_weight
from eval.judging.fitted import FittedGate, Pairs
from gateway.ledger.judged import Opinion
from gateway.ledger.rows import Row
from gateway.outcomes.ended import Scored
from routers.records import Floats

FAIR = ":fair"
"""Added to the judge's source: who worked a score out of its own."""
_SAME = 0.005


class Rescored(NamedTuple):
    """What there is to book.

    Attributes:
        rows: Scores that differ from those that count.
        unchanged: Answers whose score is right as it is.
        others: Answers that somebody else scored later, whose word stands.
        unknown: Answers of unknown length or prompt, or that lack an objective.
        length_weight: What a token of length is taken to have been worth, by objective.
    """

    rows: list[Row]
    unchanged: int
    others: int
    unknown: int
    length_weight: Mapping[str, float]


def without_length(said: Sequence[Opinion], source: str, objective: str) -> Rescored:
    """One judge's scores of one objective, less what they owe to the length of the answer.

    Args:
        said: What it said.
        source: The judge's, such as `judge:house`.
        objective: Which scores.

    Raises:
        ComparisonError: Fewer than three of them have a length.
    """
    known = [each for each in said if objective in each.scores and each.tokens == each.tokens]
    score_N = np.array([each.scores[objective] for each in known], dtype=np.float64)
    length_N = np.array([each.tokens for each in known], dtype=np.float64)
    weight = length_weight(score_N, length_N)
    fair_N = np.clip(debiased(score_N[:, None], length_N)[:, 0], 0.0, 1.0)
    told = f"less {weight:.2g} per token of length"
    return _differing(known, fair_N, [told] * len(known), source, objective)._replace(
        unknown=len(said) - len(known), length_weight={objective: weight}
    )


def by_gate(said: Sequence[Opinion], gate: FittedGate, source: str, objective: str) -> Rescored:
    """One judge's scores of several objectives, as one.

    Args:
        said: What it said.
        gate: Fitted to those objectives.
        source: The judge's.
        objective: What the one score is booked under.
    """
    known = [
        each
        for each in said
        if each.prompt is not None and all(name in each.scores for name in gate.objectives)
    ]
    judged = [gate.judge(each.prompt or "", each.scores, each.tokens) for each in known]
    score_N = np.array([each.score for each in judged], dtype=np.float64)
    weights = dict(zip(gate.objectives, gate.length_weight_K.tolist(), strict=True))
    return _differing(known, score_N, [each.told for each in judged], source, objective)._replace(
        unknown=len(said) - len(known), length_weight=weights
    )


def pairs_of(said: Sequence[Opinion], won: Mapping[str, float], objectives: Sequence[str]) -> Pairs:
    """Preferences between what was delivered and what shadow calls gave, where both are scored.

    Args:
        said: What a judge of these objectives said.
        won: How shadow calls fared against what was delivered; ties say nothing.
        objectives: In any order.

    Raises:
        ComparisonError: There is none.
    """
    names = tuple(sorted(objectives))
    able = [each for each in said if all(name in each.scores for name in names)]
    delivered = {each.decision_id: each for each in able if each.shadow_id is None}
    found: list[tuple[Opinion, Opinion]] = []
    for each in able:
        other, score = delivered.get(each.decision_id), won.get(each.shadow_id or "", 0.5)
        if each.shadow_id is not None and other and each.prompt is not None and score != 0.5:
            found.append((each, other) if score > 0.5 else (other, each))
    if not found:
        raise ComparisonError(
            "the ledger holds no preference between two answers that this judge has scored: it "
            "needs shadow calls, a judge with how: pair, and the prompts (ledger.text)"
        )
    chosen_NK, rejected_NK = (
        np.array([[pair[side].scores[name] for name in names] for pair in found]) for side in (0, 1)
    )
    length_N2 = np.array([[one.tokens, other.tokens] for one, other in found])
    return Pairs([one.prompt or "" for one, _ in found], names, chosen_NK, rejected_NK, length_N2)


def _differing(
    known: Sequence[Opinion],
    score_N: Floats,
    told: Sequence[str],
    source: str,
    objective: str,
) -> Rescored:
    rows: list[Row] = []
    unchanged = others = 0
    for each, score, why in zip(known, score_N.tolist(), told, strict=True):
        by, now_counts = each.newest.get(objective, (source, float("nan")))
        if by not in (source, source + FAIR):
            others += 1
        elif abs(score - now_counts) < _SAME:
            unchanged += 1
        else:
            about = Scored(each.decision_id, each.shadow_id)
            rows.append(about.row(objective, score, source + FAIR, why))
    return Rescored(rows, unchanged, others, 0, {})
