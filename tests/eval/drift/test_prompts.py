"""Prompts of another kind are told from those before; the same kind raises no alarm."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from eval.drift.prompts import pairs_of, shifted

TOPICS, WIDE = 6, 48
USUAL = (0.2, 0.2, 0.2, 0.2, 0.2, 0.0)
Vectors = npt.NDArray[np.float32]


def asked(count: int, rng: np.random.Generator, shares: tuple[float, ...] = USUAL) -> Vectors:
    """Unit vectors around the centres of some topics."""
    centre_TD = np.random.default_rng(0).normal(size=(TOPICS, WIDE))
    topic_N = rng.choice(TOPICS, count, p=shares)
    vector_ND = centre_TD[topic_N] + 1.5 * rng.normal(size=(count, WIDE))
    vector_ND /= np.linalg.norm(vector_ND, axis=1, keepdims=True)
    return np.asarray(vector_ND, dtype=np.float32)


@pytest.mark.parametrize(
    "shares",
    [(0.14, 0.14, 0.14, 0.14, 0.14, 0.3), (0.4, 0.3, 0.1, 0.1, 0.1, 0.0)],
    ids=["a new topic", "the old ones in other shares"],
)
@pytest.mark.parametrize("seed", range(5))
def test_a_planted_shift_is_found_and_dated(shares: tuple[float, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    after = np.concatenate([asked(150, rng), asked(600, rng, shares)])
    found = shifted(asked(1000, rng), after, rng)
    assert found is not None
    assert 150 < found.found < 700
    assert found.since == pytest.approx(150, abs=100)


def test_false_alarms_are_as_rare_as_is_said() -> None:
    # 40 times 450 prompts with one alarm due in 3,000 of them, at most: six. With the true rate at
    # that bound, more than eleven would be seen two times in a hundred.
    alarms = 0
    for seed in range(40):
        rng = np.random.default_rng(100 + seed)
        alarms += shifted(asked(600, rng), asked(450, rng), rng, alarm_every=3000) is not None
    assert alarms <= 11


def test_the_order_of_the_same_prompts_is_no_shift() -> None:
    rng = np.random.default_rng(9)
    before = asked(400, rng)
    assert shifted(before, before[rng.permutation(400)][:300], rng) is None
    same = np.tile(before[:1], (400, 1))
    assert shifted(same, same[:300], rng) is None


def test_what_can_not_be_compared_is_refused() -> None:
    rng = np.random.default_rng(0)
    assert pairs_of(1000) == 750
    with pytest.raises(ValueError, match="10 older prompts are too few to compare 5 with"):
        shifted(asked(10, rng), asked(5, rng), rng)
    with pytest.raises(ValueError, match="too few to compare 31 with"):
        shifted(asked(40, rng), asked(31, rng), rng)
    assert shifted(asked(40, rng), asked(0, rng), rng) is None
