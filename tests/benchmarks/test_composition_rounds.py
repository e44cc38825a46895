"""A small policy learns to drive rounds, for real: through TRL, on the CPU, within minutes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.composition.rounds import learn, summary

SEEDS = (0, 1, 2)
ACCURATE, CHEAP = 0.0, 0.9


@pytest.mark.slow
def test_reward_rises_and_its_weight_of_cost_moves_cost_against_accuracy(tmp_path: Path) -> None:
    pytest.importorskip("trl")

    def of_seed(seed: int) -> list[dict[str, Any]]:
        return learn(seed, (ACCURATE, CHEAP), tmp_path / str(seed))

    with ThreadPoolExecutor(2) as pairs:
        lessons = [lesson for each in pairs.map(of_seed, SEEDS) for lesson in each]
    told = summary(lessons)
    for alpha in (ACCURATE, CHEAP):
        rises = [each["rise"] for each in lessons if each["alpha"] == alpha]
        assert len(rises) == len(SEEDS)
        assert np.mean(rises) >= 0.3, told
    for seed in SEEDS:
        after = {each["alpha"]: each["after"] for each in lessons if each["seed"] == seed}
        accurate, cheap = after[ACCURATE], after[CHEAP]
        assert cheap["cost_usd"] < accurate["cost_usd"], told
        assert accurate["accuracy"] > cheap["accuracy"], told
        assert accurate["faults"] < 0.05, told
