"""Regularisers in worlds where what they are for can be measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from routers.records import Floats
from routers.training.batches import Array, Examples, Tensors, TrainingStep, tensor
from routers.training.losses import LOSSES
from routers.training.regularisers import Consistency, LoadBalance, Neighbours, Regulariser
from routers.training.trainer import Schedule, TrainedWeights, one_thread, train

WIDTH, EXPERTS = 16, 4


def hidden(weights: Mapping[str, Any], inputs: Mapping[str, Any]) -> Any:
    inside = (inputs["vectors"] @ weights["inner"] + weights["shift"]).clip(0)
    return inside @ weights["slope"] + weights["offset"]


def start(seed: int = 0, units: int = 64) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {
        "inner": rng.normal(size=(WIDTH, units)) * (2 / WIDTH) ** 0.5,
        "shift": np.zeros(units),
        "slope": rng.normal(size=(units, EXPERTS)) * 0.01,
        "offset": np.zeros(EXPERTS),
    }


def topics(rows: int, seed: int, spread: float = 0.6) -> tuple[Floats, Array]:
    """Unit vectors around one centre per expert, who is the one that is good there."""
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(np.random.default_rng(7).normal(size=(WIDTH, WIDTH)))[0][:EXPERTS]
    home_N = rng.integers(EXPERTS, size=rows)
    vectors_ND = centres[home_N] + rng.normal(size=(rows, WIDTH)) * spread / WIDTH**0.5
    return vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True), home_N


def outcomes(rows: int, seed: int, flipped: float = 0.0) -> Examples:
    vectors_ND, home_N = topics(rows, seed)
    right_NA = home_N[:, None] == np.arange(EXPERTS)
    wrong_NA = np.random.default_rng(seed + 1).random(right_NA.shape) < flipped
    score_NA = (right_NA ^ wrong_NA).astype(np.float64)
    names = tuple(map(str, range(rows)))
    return Examples({"vectors": vectors_ND}, score_NA, np.ones_like(score_NA), names)


# Without validation, as in a run that goes on too long: what a regulariser is to help against.
LONG = Schedule(held_out=1, blind_epochs=40, learning_rate=0.01, weight_decay=0.0, batch=64)


def fit(
    examples: Examples,
    regularisers: Sequence[Regulariser],
    loss: str = "bce",
    schedule: Schedule = LONG,
) -> TrainedWeights:
    rng = np.random.default_rng(1)
    return train(
        "a test",
        hidden,
        start(),
        examples,
        LOSSES[loss],
        rng=rng,
        schedule=schedule,
        regularisers=regularisers,
    )


def told(found: TrainedWeights, vectors_ND: Floats) -> Floats:
    logits_NA: Floats = hidden(found.weights, {"vectors": vectors_ND})
    return logits_NA


def loss_of(found: TrainedWeights, unseen: Examples) -> float:
    logits_NA = told(found, unseen.inputs["vectors"])
    return float(np.mean(np.logaddexp(0, logits_NA) - unseen.score_NA * logits_NA))


def flips(found: TrainedWeights, vectors_ND: Floats, length: float = 0.4) -> float:
    noise_ND = np.random.default_rng(5).normal(size=vectors_ND.shape) * length / WIDTH**0.5
    before_N = told(found, vectors_ND).argmax(axis=1)
    return float((told(found, vectors_ND + noise_ND).argmax(axis=1) != before_N).mean())


def reached(found: TrainedWeights, seed: int) -> float:
    vectors_ND, home_N = topics(2000, seed)
    return float((told(found, vectors_ND).argmax(axis=1) == home_N).mean())


def test_successful_neighbours_lower_flips_and_loss_under_wrong_labels() -> None:
    noisy, clean = outcomes(400, seed=2, flipped=0.2), outcomes(1000, seed=3)
    plain, smooth = fit(noisy, []), fit(noisy, [Neighbours(3.0)])
    vectors_ND = clean.inputs["vectors"]
    assert loss_of(smooth, clean) < 0.9 * loss_of(plain, clean)
    assert flips(smooth, vectors_ND) < 0.8 * flips(plain, vectors_ND)


def test_consistency_lowers_flips_under_paraphrase_at_no_less_utility() -> None:
    noisy = outcomes(400, seed=2, flipped=0.2)
    plain, steady = fit(noisy, []), fit(noisy, [Consistency(1.0, noise=0.4)])
    vectors_ND, _ = topics(2000, seed=3)
    assert flips(steady, vectors_ND) < 0.8 * flips(plain, vectors_ND)
    assert reached(steady, seed=3) >= reached(plain, seed=3) - 0.005


@pytest.mark.parametrize("kind", ["kl", "mse"])
def test_consistency_of_either_kind_learns_a_calmer_head(kind: str) -> None:
    noisy = outcomes(300, seed=2, flipped=0.2)
    vectors_ND, _ = topics(1000, seed=3)
    calm = fit(noisy, [Consistency(3.0, noise=0.4, kind=kind)])
    assert flips(calm, vectors_ND) < flips(fit(noisy, []), vectors_ND)


@pytest.mark.parametrize("regulariser", [Neighbours(0.0), Consistency(0.0), LoadBalance(0.0)])
def test_at_weight_zero_it_is_as_if_it_were_not_there(regulariser: Regulariser) -> None:
    examples, quick = outcomes(200, seed=2), Schedule(epochs=3, noise=0.1)
    with_it = fit(examples, [regulariser], schedule=quick)
    without = fit(examples, [], schedule=quick)
    np.testing.assert_array_equal(with_it.weights["slope"], without.weights["slope"])


def after_pure_batches(window: int, weight: float) -> float:
    """How often the topic's expert is chosen, when every batch was of a single topic."""
    examples = outcomes(400, seed=2)
    everything = Tensors.of(examples)
    weights = {name: tensor(array).requires_grad_() for name, array in start().items()}
    optimiser = torch.optim.Adam(list(weights.values()), lr=0.02)
    penalty, generator = LoadBalance(weight, window).start(everything), torch.Generator()
    home_N = examples.score_NA.argmax(axis=1)
    rng = np.random.default_rng(0)
    with one_thread(torch):
        for step in range(80):
            places_B = tensor(rng.choice(np.flatnonzero(home_N == step % EXPERTS), 64))
            batch = everything.take(places_B)
            logits_BA = hidden(weights, batch.inputs)
            seen = TrainingStep(batch, everything, places_B, weights, hidden, logits_BA, generator)
            loss = LOSSES["soft"](logits_BA, batch) + weight * penalty(seen)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    arrays = {name: values.detach().numpy() for name, values in weights.items()}
    return reached(TrainedWeights(arrays, np.array([], dtype=np.intp), ()), seed=3)


def test_global_balance_keeps_specialists_that_balance_within_a_batch_loses() -> None:
    assert after_pure_batches(window=64 * EXPERTS * 2, weight=3.0) > 0.95
    assert after_pure_batches(window=1, weight=3.0) < 0.6


def test_balance_is_least_when_all_experts_are_chosen_alike() -> None:
    examples = outcomes(EXPERTS, seed=2)
    everything = Tensors.of(examples)
    places_B, nobody = torch.arange(EXPERTS), torch.Generator()

    def penalised(logits_BA: torch.Tensor) -> float:
        step = TrainingStep(everything, everything, places_B, {}, hidden, logits_BA, nobody)
        return float(LoadBalance(1.0).start(everything)(step))

    assert penalised(10 * torch.eye(EXPERTS)) == pytest.approx(1.0, rel=1e-3)
    everyone_to_one = torch.zeros(EXPERTS, EXPERTS)
    everyone_to_one[:, 0] = 10.0
    assert penalised(everyone_to_one) == pytest.approx(EXPERTS, rel=1e-2)
