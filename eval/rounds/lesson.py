"""The whole schooling of a small driver: traces, then reward, on one core within minutes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.rounds.measure import TURN_TOKENS, ConversationMeans, hold_exam
from eval.rounds.policy import small_policy, small_tokenizer
from eval.rounds.world import SimulatedPool, draw_rows, draw_traces
from routers.rounds.episodes import RoundLimits
from routers.rounds.extra import needs
from routers.rounds.reward import RewardRule
from routers.rounds.train import Trajectory, optimise, warm_start

LIMITS = RoundLimits(rounds=2, information_tokens=16, tokens=96)
_QUIET: Mapping[str, Any] = {
    "report_to": "none",
    "use_cpu": True,
    "bf16": False,
    "save_strategy": "no",
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
    "logging_steps": 1000,
}
WARM: Mapping[str, Any] = {
    **_QUIET,
    "per_device_train_batch_size": 32,
    "max_steps": 120,
    "learning_rate": 2e-3,
    "adam_beta2": 0.98,
    "lr_scheduler_type": "constant_with_warmup",
    "warmup_steps": 10,
}
GRPO: Mapping[str, Any] = {
    **_QUIET,
    "per_device_train_batch_size": 64,
    "num_generations": 8,
    "max_steps": 80,
    "learning_rate": 3e-4,
    "lr_scheduler_type": "constant",
    "max_completion_length": TURN_TOKENS,
    "temperature": 1.0,
    "beta": 0.0,
    # Else it settles on who is best on the whole before it finds who is best at each kind.
    "entropy_coef": 0.01,
}


@dataclass(frozen=True, slots=True)
class Lesson:
    """One run of reinforcement.

    Attributes:
        alpha: Weight of cost in its reward.
        steps: What each step reported, see `routers.rounds.train.TrainingReport`.
        before: The driver after its traces alone, as it samples, on held-out questions.
        after: The same after reinforcement; costs are judged on the scale of before.
    """

    alpha: float
    steps: tuple[Mapping[str, float], ...]
    before: ConversationMeans
    after: ConversationMeans

    @property
    def rise(self) -> float:
        return self.after.reward - self.before.reward


def school(
    seed: int,
    alphas: Sequence[float],
    out: Path,
    *,
    warm: Mapping[str, Any] = WARM,
    grpo: Mapping[str, Any] = GRPO,
    held_out: int = 400,
) -> list[Lesson]:
    """Warm one policy up, then reinforce a copy of it for each weight of cost.

    Args:
        seed: Source of all randomness.
        alphas: Weights of cost, each in [0, 1].
        out: Where the policies are saved: `warm` and one folder per weight.
        warm: For `trl.SFTConfig`.
        grpo: For `trl.GRPOConfig`.
        held_out: Questions to measure by.

    Raises:
        MissingExtraError: TRL is not installed.
    """
    transformers = needs("transformers")
    rng = np.random.default_rng(seed)
    tokenizer, rows = small_tokenizer(), draw_rows(3000, rng)
    model = small_policy(tokenizer, seed)
    traces = [Trajectory(row, said) for row, said in zip(rows, draw_traces(rows, rng), strict=True)]
    warm_start(model, tokenizer, traces, out / "files", settings={**warm, "seed": seed})
    _save(model, tokenizer, out / "warm")
    questions = draw_rows(held_out, rng)
    warm_talks = hold_exam(model, tokenizer, questions, LIMITS, seed)
    lessons = []
    for alpha in alphas:
        rule, folder = RewardRule(alpha), out / f"alpha-{alpha:g}"
        policy = transformers.AutoModelForCausalLM.from_pretrained(out / "warm")
        trained = optimise(
            policy,
            tokenizer,
            draw_rows(2000, rng),
            SimulatedPool(np.random.default_rng([seed, round(100 * alpha)])),
            out / "files",
            rule=rule,
            limits=LIMITS,
            settings={**grpo, "seed": seed},
        )
        _save(policy, tokenizer, folder)
        talks = hold_exam(policy, tokenizer, questions, LIMITS, seed)
        scale = warm_talks.scale()
        before, after = warm_talks.measured(rule, scale), talks.measured(rule, scale)
        lessons.append(Lesson(alpha, trained.steps, before, after))
    return lessons


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
