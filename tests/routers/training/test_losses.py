"""Losses against what they are by hand, and at their limits."""

from __future__ import annotations

from math import exp, log
from typing import Any

import numpy as np
import pytest
import torch

from routers.training.batches import Tensors
from routers.training.losses import LOSSES, Contrast, SoftTargets, multi_hot, pairwise, squared


def batch(score: Any, weight: Any = None) -> Tensors:
    score_BA = torch.tensor(score, dtype=torch.float32)
    weight_BA = torch.ones_like(score_BA) if weight is None else torch.tensor(weight).float()
    return Tensors(torch.arange(len(score_BA)), {}, score_BA, weight_BA)


def some(experts: int = 4, rows: int = 6, seed: int = 0) -> Any:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, experts))).float()


def test_multi_hot_is_the_weighted_cross_entropy_of_each_cell() -> None:
    told = multi_hot(torch.tensor([[0.0, 2.0]]), batch([[1.0, 0.3]], [[1.0, 3.0]]))
    right = 1 / (1 + exp(-2.0))
    by_hand = (log(2) - 3 * (0.3 * log(right) + 0.7 * log(1 - right))) / 4
    assert float(told) == pytest.approx(by_hand, rel=1e-5)


def test_squared_error_is_of_the_quality_not_of_the_logit() -> None:
    told = squared(torch.tensor([[0.0, 100.0]]), batch([[1.0, 1.0]]))
    assert float(told) == pytest.approx(0.125)


def test_soft_targets_near_zero_temperature_are_the_cross_entropy_with_the_best() -> None:
    scores = np.random.default_rng(1).random((6, 4))
    logits = some()
    told = SoftTargets(1e-4)(logits, batch(scores))
    labels = torch.from_numpy(scores.argmax(axis=1))
    assert float(told) == pytest.approx(
        float(torch.nn.functional.cross_entropy(logits, labels)), rel=1e-5
    )


def test_soft_targets_at_great_temperature_want_all_experts_alike() -> None:
    scores = np.random.default_rng(1).random((6, 4))
    told = SoftTargets(1e6)(some(), batch(scores))
    uniform = -some().log_softmax(dim=1).mean() - log(4)
    assert float(told) == pytest.approx(float(uniform), rel=1e-4)
    assert float(SoftTargets(1e6)(torch.zeros(6, 4), batch(scores))) == pytest.approx(0, abs=1e-6)


def test_soft_targets_leave_the_unobserved_out_of_both_distributions() -> None:
    scores, seen = [[1.0, 0.0, 0.9]], [[1.0, 1.0, 0.0]]
    logits = torch.tensor([[0.5, -0.5, 9.0]])
    alone = SoftTargets()(logits[:, :2], batch([[1.0, 0.0]]))
    assert float(SoftTargets()(logits, batch(scores, seen))) == pytest.approx(float(alone))
    assert float(SoftTargets()(logits, batch(scores, [[1.0, 0.0, 0.0]]))) == 0


def test_contrast_equals_a_case_computed_by_hand() -> None:
    """Of five experts the best three stand against those of the last three that scored <= .5."""
    scores = [[0.9, 0.8, 0.7, 0.6, 0.2]]
    similar = [0.1, 0.5, -0.3, 0.7, 0.4]
    # Last three are .7, .6 and .2: only the last one is bad enough to be pushed away.
    by_hand = sum(-log(exp(similar[i]) / (exp(similar[i]) + exp(similar[4]))) for i in (0, 1, 2))
    assert float(Contrast()(torch.tensor([similar]), batch(scores))) == pytest.approx(by_hand)


def test_contrast_never_calls_a_wrong_expert_good_nor_pushes_one_from_itself() -> None:
    similar = [0.1, 0.5, -0.3]
    only = Contrast()(torch.tensor([similar]), batch([[1.0, 0.0, 0.0]]))
    by_hand = -log(exp(0.1) / (exp(0.1) + exp(0.5) + exp(-0.3)))
    assert float(only) == pytest.approx(by_hand)
    for nobody in ([[0.0, 0.0, 0.0]], [[1.0, 1.0, 1.0]]):
        assert float(Contrast()(torch.tensor([similar]), batch(nobody))) == 0


def test_contrast_takes_the_unobserved_neither_as_good_nor_as_bad() -> None:
    scores, seen = [[1.0, 0.0, 1.0, 0.0]], [[1.0, 1.0, 0.0, 0.0]]
    logits = torch.tensor([[0.3, 0.2, 5.0, 5.0]])
    alone = Contrast()(logits[:, :2], batch([[1.0, 0.0]]))
    assert float(Contrast()(logits, batch(scores, seen))) == pytest.approx(float(alone))


def test_pairwise_is_the_likelihood_of_the_winner_by_the_margin() -> None:
    told = pairwise(torch.tensor([[1.0, 0.0, 0.5]]), batch([[1.0, 0.0, 1.0]]))
    by_hand = (log(1 + exp(-1.0)) + log(1 + exp(-0.5))) / 2
    assert float(told) == pytest.approx(by_hand)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_order_of_experts_changes_no_loss(name: str) -> None:
    scores = np.random.default_rng(2).random((6, 4))
    told = LOSSES[name](some(), batch(scores))
    turned = LOSSES[name](some()[:, [2, 0, 3, 1]], batch(scores[:, [2, 0, 3, 1]]))
    assert float(told) == pytest.approx(float(turned), rel=1e-5)
