"""How good and how dear a driver is, by conversations over held-out questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from eval.rounds.world import EXPERTS, SimulatedPool
from experts.compose.rounds.grammar import PUBLISHED, Words
from routers.rounds.episodes import Conversations, Episode, PaidReply, Question, RoundLimits, Row
from routers.rounds.extra import needs
from routers.rounds.reward import CostNormaliser, RewardRule
from routers.rounds.sampling import sample_turns
from routers.rounds.train import prompt_tokens, question_alone

TURN_TOKENS = 32
"""Longest turn in the small world."""


@dataclass(frozen=True, slots=True)
class ConversationMeans:
    """Means over conversations.

    Attributes:
        reward: By the rule that it was measured with.
        accuracy: Share of right answers in the right format.
        cost_usd: What the experts' words cost.
        calls: Questions to experts.
        faults: Share of conversations that break the format.
        asked: Kind of question to every expert's share of the calls.
    """

    reward: float
    accuracy: float
    cost_usd: float
    calls: float
    faults: float
    asked: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class HeldConversations:
    """Conversations that a driver held, and whom it asked: see `ConversationMeans.asked`."""

    episodes: Sequence[Episode]
    asked: Mapping[str, Mapping[str, float]]

    def scale(self) -> CostNormaliser:
        """What these conversations cost, for others to be judged by."""
        normaliser = CostNormaliser()
        for episode in self.episodes:
            normaliser.observe(sum(call.usd for call in episode.paid))
        return normaliser

    def measured(self, rule: RewardRule, scale: CostNormaliser) -> ConversationMeans:
        """Means, with costs judged on `scale`, which is left as it is."""
        verdicts = [
            rule.judge(
                each.text,
                each.row["answers"],
                each.paid,
                tuple(EXPERTS),
                CostNormaliser(scale.latest.copy()),
            )
            for each in self.episodes
        ]
        return ConversationMeans(
            reward=_mean([verdict.reward for verdict in verdicts]),
            accuracy=_mean([verdict.outcome * (not verdict.fault) for verdict in verdicts]),
            cost_usd=_mean([verdict.cost_usd for verdict in verdicts]),
            calls=_mean([len(each.paid) for each in self.episodes]),
            faults=_mean([bool(verdict.fault) for verdict in verdicts]),
            asked=self.asked,
        )


def hold_exam(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    limits: RoundLimits,
    seed: int,
    *,
    words: Words = PUBLISHED,
    temperature: float = 1.0,
) -> HeldConversations:
    """Let a driver answer each question once in the simulated pool.

    Args:
        model: A causal language model of transformers.
        tokenizer: Its tokenizer.
        rows: Questions of the small world.
        limits: How long a conversation may be.
        seed: Source of the experts' luck, and of the driver's.
        words: How the tags are called.
        temperature: 0 takes the likeliest token each time.
    """
    needs("torch").manual_seed(seed)
    pool = _Counting(np.random.default_rng(seed))
    sample = partial(
        sample_turns,
        model,
        tokenizer,
        words=words,
        max_new_tokens=TURN_TOKENS,
        temperature=temperature,
    )
    prompts = [prompt_tokens(tokenizer, question_alone(row)) for row in rows]
    episodes = Conversations(pool, tokenizer, words, limits).hold(rows, prompts, sample)
    return HeldConversations(episodes, pool.shares())


class _Counting(SimulatedPool):
    """Also counts who is asked."""

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__(rng)
        self._counts: dict[str, dict[str, int]] = {}

    def shares(self) -> dict[str, dict[str, float]]:
        return {
            kind: {expert: count / sum(counts.values()) for expert, count in counts.items()}
            for kind, counts in sorted(self._counts.items())
        }

    def ask(self, questions: Sequence[Question]) -> list[PaidReply]:
        for question in questions:
            counts = self._counts.setdefault(question.row["kind"], dict.fromkeys(EXPERTS, 0))
            counts[question.expert] += 1
        return super().ask(questions)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
