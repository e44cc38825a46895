"""Preferences between two answers, as a table of outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from routers.errors import TableError
from routers.records import OutcomeTable


@dataclass(frozen=True, slots=True)
class Battle:
    """Two experts answered the same request, and somebody said whose answer was better.

    Attributes:
        query_id: The request; it may be that of many battles.
        prompt: Its text.
        first: An expert.
        second: Another expert.
        first_won: 1 when the first was better, 0 when the second was, 0.5 for a tie.
    """

    query_id: str
    prompt: str
    first: str
    second: str
    first_won: float


def table_of_battles(battles: Sequence[Battle]) -> OutcomeTable:
    """One row per battle, scored for the two that fought; their share of the win is the score.

    Battles about the same request are of one group, so that no split divides them. The scores say
    who is better, not how good: `pairwise` learns from that; the other estimators would
    take an expert that fought weak opponents for a strong one.

    Raises:
        TableError: No battles, an expert against itself, or a share outside [0, 1].
    """
    if not battles:
        raise TableError("there are no battles, so there is nothing to learn")
    experts = tuple(sorted({name for each in battles for name in (each.first, each.second)}))
    column = {expert: place for place, expert in enumerate(experts)}
    score_NA = np.full((len(battles), len(experts)), np.nan)
    for row, each in enumerate(battles):
        if each.first == each.second or not 0 <= each.first_won <= 1:
            raise TableError(
                f"battle {row} on query {each.query_id!r}: {each.first!r} against "
                f"{each.second!r} with share {each.first_won!r}; it takes two experts and a share "
                "in [0, 1]"
            )
        score_NA[row, [column[each.first], column[each.second]]] = (
            each.first_won,
            1 - each.first_won,
        )
    unknown_NA = np.full_like(score_NA, np.nan)
    return OutcomeTable(
        query_ids=tuple(f"{each.query_id}/{row}" for row, each in enumerate(battles)),
        prompts=tuple(each.prompt for each in battles),
        tasks=(None,) * len(battles),
        groups=tuple(each.query_id for each in battles),
        experts=experts,
        score_NA=score_NA,
        prompt_tokens_NA=unknown_NA,
        output_tokens_NA=unknown_NA,
        cost_usd_NA=unknown_NA,
        latency_s_NA=unknown_NA,
        propensity_NA=np.ones_like(score_NA),
    )
