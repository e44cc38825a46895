"""Trains a driver of rounds: supervised on traces, then by group-relative policy optimisation.

Both run in TRL. What a driver was given to read (the information) is left out of either loss.
GRPO: Shao et al. 2024, https://arxiv.org/abs/2402.03300; the masking of what was retrieved:
Search-R1 (Jin et al. 2025, https://arxiv.org/abs/2503.09516), which Router-R1 keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experts.compose.rounds.grammar import PUBLISHED, Words
from routers.rounds.episodes import Conversations, Episode, RoundLimits, RoundsPool, Row, Tokens
from routers.rounds.extra import needs
from routers.rounds.masks import labels, tokens_and_own
from routers.rounds.reward import CostNormaliser, Reward, RewardRule
from routers.rounds.sampling import sample_turns

Prompter = Callable[[Row], list[dict[str, Any]]]
"""The messages that put a question to the driver."""
_ROW = "row_number"


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A conversation to learn from: the question's row and what was written after the prompt."""

    row: Row
    transcript: str


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What a run of GRPO reported.

    Attributes:
        steps: For each batch of conversations the mean `reward`, `outcome`, `cost_usd` and `calls`,
            and the share of `faults`.
    """

    steps: tuple[Mapping[str, float], ...]


def question_alone(row: Row) -> list[dict[str, Any]]:
    """The question as the only message, for a driver that knows the rest by heart."""
    return [{"role": "user", "content": row["question"]}]


def warm_start(
    model: Any,
    tokenizer: Any,
    traces: Sequence[Trajectory],
    out: Path,
    *,
    prompter: Prompter = question_alone,
    words: Words = PUBLISHED,
    settings: Mapping[str, Any] | None = None,
) -> list[float]:
    """Teach the form of a conversation by traces; `model` is changed.

    Args:
        model: A causal language model of transformers.
        tokenizer: Its tokenizer, with a chat template.
        traces: What to imitate; tags that don't match are refused by `ValueError`.
        out: Where the trainer keeps its files.
        prompter: How the driver is asked.
        words: How the tags are called.
        settings: For `trl.SFTConfig`.

    Returns:
        The loss at each logged step.

    Raises:
        MissingExtraError: TRL is not installed.
    """
    trl, datasets = needs("trl"), needs("datasets")
    rows = []
    for trace in traces:
        prompt = prompt_tokens(tokenizer, prompter(trace.row))
        tokens, own = tokens_and_own(trace.transcript, tokenizer, words)
        rows.append({"input_ids": prompt + tokens, "labels": labels(prompt, tokens, own)})
    config = trl.SFTConfig(output_dir=str(out), **(settings or {}))
    trainer = trl.SFTTrainer(
        model=model,
        args=config,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def prompt_tokens(tokenizer: Any, messages: Sequence[Mapping[str, Any]]) -> Tokens:
    """Tokens up to where the driver begins."""
    said = [{"role": each["role"], "content": each["content"]} for each in messages]
    text = tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=False)
    tokens: Tokens = tokenizer.encode(text, add_special_tokens=False)
    return tokens


@dataclass(slots=True)
class Rollouts:
    """What GRPO samples and what it is rewarded by.

    Attributes:
        rows: The questions; a prompt carries the number of its own.
        conversations: Where policy and pool meet.
        rule: What a conversation is worth.
        experts: Ids of the pool.
        normaliser: The latest costs; each process of several has its own.
        steps: Means over each batch.
    """

    rows: Sequence[Row]
    conversations: Conversations
    rule: RewardRule
    experts: tuple[str, ...]
    normaliser: CostNormaliser = field(default_factory=CostNormaliser)
    steps: list[Mapping[str, float]] = field(default_factory=list)
    _episodes: list[Episode] = field(default_factory=list)

    def roll_out(self, prompts: Sequence[Sequence[Mapping[str, Any]]], trainer: Any) -> Any:
        """TRL's `rollout_func`: one conversation per prompt (a group repeats its prompt)."""
        rows = [self.rows[prompt[0][_ROW]] for prompt in prompts]
        tokenizer = trainer.processing_class
        asked = [prompt_tokens(tokenizer, prompt) for prompt in prompts]
        episodes = self.conversations.hold(rows, asked, _Turns(trainer, self.rule.words))
        self._episodes = episodes
        return {
            "prompt_ids": [episode.prompt for episode in episodes],
            "completion_ids": [episode.tokens for episode in episodes],
            "logprobs": None,
            "env_mask": [episode.own for episode in episodes],
            "episode": list(range(len(episodes))),
        }

    def reward(self, *, episode: Sequence[int], **_ignored: Any) -> list[float]:
        """TRL's reward function."""
        held = [self._episodes[number] for number in episode]
        verdicts = [self.judge(each) for each in held]
        self.steps.append(_means(held, verdicts))
        return [verdict.reward for verdict in verdicts]

    def judge(self, episode: Episode) -> Reward:
        answers = episode.row["answers"]
        return self.rule.judge(episode.text, answers, episode.paid, self.experts, self.normaliser)


def optimise(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    pool: RoundsPool,
    out: Path,
    *,
    rule: RewardRule,
    limits: RoundLimits,
    prompter: Prompter = question_alone,
    settings: Mapping[str, Any] | None = None,
) -> TrainingReport:
    """Improve a driver by its reward; `model` is changed.

    Args:
        model: A causal language model of transformers, or the name of a folder with one.
        tokenizer: Its tokenizer, with a chat template.
        rows: Questions with their accepted `answers`.
        pool: Whom it may ask.
        out: Where the trainer keeps its files.
        rule: What a conversation is worth.
        limits: How long it may be.
        prompter: How the driver is asked.
        settings: For `trl.GRPOConfig`.

    Raises:
        MissingExtraError: TRL is not installed.
    """
    trl, datasets = needs("trl"), needs("datasets")
    conversations = Conversations(pool, tokenizer, rule.words, limits)
    rollouts = Rollouts(rows, conversations, rule, tuple(pool.experts))
    prompts = [
        {"prompt": [{**message, _ROW: number} for message in prompter(row)]}
        for number, row in enumerate(rows)
    ]
    trainer = trl.GRPOTrainer(
        model=model,
        reward_funcs=rollouts.reward,
        args=trl.GRPOConfig(output_dir=str(out), **(settings or {})),
        train_dataset=datasets.Dataset.from_list(prompts),
        processing_class=tokenizer,
        rollout_func=rollouts.roll_out,
    )
    trainer.train()
    return TrainingReport(tuple(rollouts.steps))


def _means(episodes: Sequence[Episode], verdicts: Sequence[Reward]) -> Mapping[str, float]:
    count = len(verdicts)
    return {
        "reward": sum(verdict.reward for verdict in verdicts) / count,
        "outcome": sum(verdict.outcome for verdict in verdicts) / count,
        "cost_usd": sum(verdict.cost_usd for verdict in verdicts) / count,
        "calls": sum(len(episode.paid) for episode in episodes) / count,
        "faults": sum(verdict.fault is not None for verdict in verdicts) / count,
    }


class _Turns:
    """Samples turns from the policy that is being trained."""

    def __init__(self, trainer: Any, words: Words) -> None:
        self._trainer = trainer
        self._tokenizer = trainer.processing_class
        self._words = words

    def __call__(self, prefixes: Sequence[Tokens]) -> list[Tokens]:
        return self._vllm(prefixes) if self._trainer.use_vllm else self._transformers(prefixes)

    def _vllm(self, prefixes: Sequence[Tokens]) -> list[Tokens]:
        _, turns, _, _ = self._trainer.vllm_generation.generate(
            prompts=list(prefixes), images=None, num_generations=1
        )
        return [list(turn) for turn in turns]

    def _transformers(self, prefixes: Sequence[Tokens]) -> list[Tokens]:
        trainer = self._trainer
        return sample_turns(
            trainer.accelerator.unwrap_model(trainer.model),
            self._tokenizer,
            prefixes,
            self._words,
            max_new_tokens=trainer.args.max_completion_length,
            temperature=trainer.args.temperature,
        )
