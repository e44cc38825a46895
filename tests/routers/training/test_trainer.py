"""The trainer: seeded, alone on one thread, and never on what it validates with."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from routers.errors import MissingExtraError
from routers.training.batches import Examples, Tensors, TrainingStep
from routers.training.losses import LOSSES
from routers.training.regularisers import Penalty
from routers.training.trainer import Schedule, TrainedWeights, train


def linear(weights: Mapping[str, Any], inputs: Mapping[str, Any]) -> Any:
    return inputs["vectors"] @ weights["slope"] + weights["offset"]


def start(width: int = 8, experts: int = 3) -> dict[str, Any]:
    return {"slope": np.zeros((width, experts)), "offset": np.zeros(experts)}


def a_world(rows: int = 600, seed: int = 0, groups: int | None = None) -> Examples:
    rng = np.random.default_rng(seed)
    vectors_ND = rng.normal(size=(rows, 8))
    slope_DA = np.random.default_rng(99).normal(size=(8, 3))
    score_NA = (rng.random((rows, 3)) < 1 / (1 + np.exp(-vectors_ND @ slope_DA))).astype(float)
    names = tuple(f"g{row % (groups or rows)}" for row in range(rows))
    return Examples({"vectors": vectors_ND}, score_NA, np.ones_like(score_NA), names)


def trained(examples: Examples, seed: int = 0, **settings: Any) -> TrainedWeights:
    rng = np.random.default_rng(seed)
    return train("a test", linear, start(), examples, LOSSES["bce"], rng=rng, **settings)


def test_it_finds_a_planted_slope_and_predicts_with_numpy() -> None:
    found = trained(a_world(1500), schedule=Schedule(learning_rate=0.1, weight_decay=0.0))
    unseen = a_world(500, seed=1)
    logits_NA = linear(found.weights, unseen.inputs)
    assert isinstance(logits_NA, np.ndarray)
    planted_NA = unseen.inputs["vectors"] @ np.random.default_rng(99).normal(size=(8, 3))
    assert np.corrcoef(logits_NA.ravel(), planted_NA.ravel())[0, 1] > 0.97


def test_the_same_seed_trains_the_same_and_another_one_something_else() -> None:
    one, same, other = (trained(a_world(200), seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.weights["slope"], same.weights["slope"])
    assert one.losses == same.losses
    assert (one.weights["slope"] != other.weights["slope"]).any()


def test_global_chance_and_the_number_of_threads_are_left_alone() -> None:
    threads, before = torch.get_num_threads(), torch.get_rng_state()
    numpy_before = np.random.get_state(legacy=False)  # noqa: NPY002
    trained(a_world(), schedule=Schedule(epochs=2, noise=0.1))
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), before)
    numpy_after = np.random.get_state(legacy=False)  # noqa: NPY002
    np.testing.assert_equal(numpy_after, numpy_before)


def test_the_start_is_not_changed_and_frozen_weights_stay() -> None:
    began = start()
    rng = np.random.default_rng(0)
    found = train("a test", linear, began, a_world(), LOSSES["bce"], rng=rng, frozen={"offset"})
    assert not began["slope"].any()
    assert not found.weights["offset"].any()
    assert found.weights["slope"].any()


def test_what_is_validated_on_is_whole_groups_that_teach_nothing() -> None:
    examples = a_world(groups=30)
    found = trained(examples)
    held_out = np.isin(np.arange(len(examples)), found.held_out)
    groups = np.array(examples.groups)
    assert 0 < held_out.sum() < len(examples) / 5
    assert not set(groups[held_out]) & set(groups[~held_out])
    changed = examples.score_NA.copy()
    changed[held_out] = 1 - changed[held_out]
    once = Schedule(epochs=1)
    weights = [
        trained(
            Examples(examples.inputs, score_NA, examples.weight_NA, examples.groups),
            schedule=once,
            regularisers=[Keep()],
        ).losses
        for score_NA in (examples.score_NA, changed)
    ]
    assert weights[0] != weights[1]
    assert Keep.seen[0] == Keep.seen[1]


class Keep:
    """Remembers the sum of what was trained on."""

    weight = 1.0
    seen: list[float] = []  # noqa: RUF012

    def start(self, everything: Tensors) -> Penalty:
        self.seen.append(float(everything.score_BA.sum()))
        return lambda step: step.logits_BA.sum() * 0


def test_it_ends_with_the_weights_of_the_best_validation() -> None:
    noise = np.random.default_rng(3).random((300, 3)).round()
    pure = a_world(300)
    examples = Examples(pure.inputs, noise, pure.weight_NA, pure.groups)
    found = trained(examples, schedule=Schedule(epochs=100, patience=4, learning_rate=0.1))
    assert len(found.losses) < 50
    best = int(np.argmin(found.losses))
    assert len(found.losses) - 1 - best == 4
    rows = found.held_out
    logits = linear(found.weights, {"vectors": pure.inputs["vectors"][rows]})
    loss = np.mean(np.logaddexp(0, logits) - noise[rows] * logits)
    assert loss == pytest.approx(found.losses[best], rel=1e-4)


def test_unobserved_cells_teach_nothing_and_rare_ones_count_more() -> None:
    examples = a_world()
    hidden_NA = np.random.default_rng(0).random(examples.score_NA.shape) < 0.5
    weight_NA = np.where(hidden_NA, 0.0, 1.0)
    weights = [
        trained(
            Examples(
                examples.inputs,
                np.where(hidden_NA, filler, examples.score_NA),
                weight_NA,
                examples.groups,
            )
        ).weights["slope"]
        for filler in (0.0, 1.0)
    ]
    np.testing.assert_array_equal(weights[0], weights[1])
    half_N = np.arange(len(examples)) % 2 == 0
    score_NA = np.where(half_N[:, None], 1.0, np.zeros((1, 3)))
    heavy_NA = np.where(half_N[:, None], 9.0, np.ones((1, 3)))
    blank = {"vectors": np.zeros((len(examples), 8))}
    found = trained(
        Examples(blank, score_NA, heavy_NA, ("all",) * len(examples)),
        schedule=Schedule(blind_epochs=30, learning_rate=0.2),
    )
    assert 1 / (1 + np.exp(-found.weights["offset"])) == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_table_with_nothing_observed_in_a_batch_gives_no_gradient(name: str) -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    batch = Tensors(torch.arange(4), {}, torch.rand(4, 3), torch.zeros(4, 3))
    loss = LOSSES[name](logits, batch)
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_one_single_group_is_trained_on_blindly() -> None:
    found = trained(a_world(groups=1), schedule=Schedule(blind_epochs=3))
    assert found.losses == ()
    assert len(found.held_out) == 0
    assert found.weights["slope"].any()


def test_noise_changes_what_is_learned() -> None:
    quiet, loud = (trained(a_world(200), schedule=Schedule(noise=noise)) for noise in (0.0, 1.0))
    assert (quiet.weights["slope"] != loud.weights["slope"]).any()


def test_a_regulariser_sees_the_batch_and_can_ask_the_head_again() -> None:
    class Again:
        weight = 1.0
        gaps: list[float] = []  # noqa: RUF012

        def start(self, everything: Tensors) -> Penalty:
            def penalty(step: TrainingStep) -> Any:
                again = step.logits(everything.take(step.places_B))
                self.gaps.append(float((again - step.logits_BA).abs().max().detach()))
                return again.sum() * 0

            return penalty

    trained(a_world(100), schedule=Schedule(epochs=2), regularisers=[Again()])
    assert max(Again.gaps) < 1e-5


def test_without_torch_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    really = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == "torch":
            raise ImportError(name)
        return really(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"a test needs the extra.*torch"):
        trained(a_world(20))
