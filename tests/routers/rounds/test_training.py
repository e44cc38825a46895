"""What TRL is given, and that it leaves what a driver was shown out of its loss."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experts.compose.rounds.grammar import PUBLISHED
from routers.rounds.episodes import Conversations, Tokens
from routers.rounds.extra import needs
from routers.rounds.reward import RewardRule
from routers.rounds.train import Rollouts
from tests.routers.rounds.letters import Echo, Letters, Scripted

ASK, SAY = "<think>a</think><search>small:b</search>", "<think>c</think><answer>d</answer>"
ROWS = [{"question": "1", "answers": ["d"]}, {"question": "2", "answers": ["e"]}]


class Chat(Letters):
    """A chat is its last message."""

    def apply_chat_template(self, messages: Any, **_: Any) -> str:
        return str(messages[-1]["content"])


class Trainer:
    """The part of TRL's trainer that rollouts look at, with a scripted policy."""

    use_vllm = True

    def __init__(self, scripted: Scripted) -> None:
        self.processing_class = Chat()
        self.vllm_generation = self
        self._scripted = scripted

    def generate(self, *, prompts: Sequence[Tokens], images: None, num_generations: int) -> Any:
        assert num_generations == 1
        return None, self._scripted(prompts), None, None


def test_trl_is_given_every_token_and_whose_it_is() -> None:
    rollouts = Rollouts(ROWS, Conversations(Echo(), Letters()), RewardRule(), Echo.experts)
    trainer = Trainer(Scripted({"1": [ASK, SAY], "2": [SAY]}))
    prompts = [
        [{"role": "user", "content": row["question"], "row_number": n}]
        for n, row in enumerate(ROWS)
    ]
    given = rollouts.roll_out(prompts, trainer)
    assert given["prompt_ids"] == [[ord("1")], [ord("2")]]
    whole = [Letters().decode(ids, skip_special_tokens=True) for ids in given["completion_ids"]]
    assert whole == [f"{ASK}{PUBLISHED.informed('b!')}{SAY}", SAY]
    for ids, own, text in zip(
        given["completion_ids"], given["env_mask"], (ASK + SAY, SAY), strict=True
    ):
        mine = [token for token, by_policy in zip(ids, own, strict=True) if by_policy]
        assert Letters().decode(mine, skip_special_tokens=True) == text
    assert rollouts.reward(episode=given["episode"], prompts=[], completions=[]) == [1.0, 0.0]
    assert rollouts.steps[0] == {
        "reward": 0.5, "outcome": 0.5, "cost_usd": 5e-7, "calls": 0.5, "faults": 0.0
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_a_driver_was_shown_teaches_it_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two batches that differ in nothing but shown tokens leave the same weights behind."""
    pytest.importorskip("trl", reason="needs the extra `rl`")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")

    def weights(shown: Tokens, own: int) -> np.ndarray[Any, Any]:
        return _after_one_update(tmp_path, [5, 6, 7], shown, own)

    one, other = weights([8, 9], own=0), weights([10, 11], own=0)
    np.testing.assert_array_equal(one, other)
    assert np.abs(one - weights([8, 9], own=1)).max() > 1e-6, "or masks would be of no effect"


def _after_one_update(out: Path, said: Tokens, shown: Tokens, own: int) -> np.ndarray[Any, Any]:
    from eval.rounds.policy import small_policy, small_tokenizer

    datasets, trl = needs("datasets"), needs("trl")
    tokenizer = small_tokenizer()
    model = small_policy(tokenizer, 0, width=16, layers=1)

    def roll_out(prompts: Sequence[Any], trainer: Any) -> Any:
        ids = [[*said, place + 20, *shown] for place in range(len(prompts))]
        masks = [[1] * (len(said) + 1) + [own] * len(shown) for _ in prompts]
        return {
            "prompt_ids": [[4]] * len(prompts),
            "completion_ids": ids,
            "env_mask": masks,
            "logprobs": None,
        }

    def reward(completions: Sequence[Any], **_: Any) -> list[float]:
        return [float(place % 2) for place in range(len(completions))]

    config = trl.GRPOConfig(
        output_dir=str(out),
        per_device_train_batch_size=4,
        num_generations=4,
        max_steps=1,
        learning_rate=0.1,
        beta=0.0,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        # Normalised by each conversation's own tokens, so that only their values count.
        loss_type="grpo",
    )
    prompts = datasets.Dataset.from_list([{"prompt": "of"}] * 4)
    trainer = trl.GRPOTrainer(
        model=model,
        reward_funcs=reward,
        args=config,
        train_dataset=prompts,
        processing_class=tokenizer,
        rollout_func=roll_out,
    )
    trainer.train()
    return np.concatenate([each.detach().numpy().ravel() for each in model.parameters()])
