"""A planted world: two small specialists that together beat a large generalist of twice a size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eval.errors import ComparisonError, SourceError
from eval.fleet.design import Budgets, Quarry, design, quarry
from eval.fleet.footprints import read_footprints
from eval.fleet.front import front, usual_steps
from eval.fleet.judge import FleetJudge
from eval.tables.pool import with_experts
from routers.errors import RoutingError
from routers.records import OutcomeTable

SKILL = {
    "cooking": {"chef": 0.9, "coder": 0.1, "large": 0.7, "tiny": 0.3},
    "python": {"chef": 0.1, "coder": 0.9, "large": 0.7, "tiny": 0.3},
}
WORDS = {"cooking": "simmer onions butter stew", "python": "def loop list exception import"}
SIZES = {"chef": 3.0, "coder": 3.0, "large": 10.0, "tiny": 1.0}


def a_table(seed: int, queries: int = 240) -> OutcomeTable:
    rng = np.random.default_rng(seed)
    experts = tuple(sorted(SIZES))
    tasks = [("cooking", "python")[row % 2] for row in range(queries)]
    prompts = []
    for task in tasks:
        words = rng.choice(WORDS[task].split(), 3)
        prompts.append(f"{' '.join(words)} {rng.integers(10**6)}")
    chance_NA = np.array([[SKILL[task][expert] for expert in experts] for task in tasks])
    score_NA = (rng.random(chance_NA.shape) < chance_NA).astype(np.float64)
    ids = tuple(f"{seed}-{row}" for row in range(queries))
    unknown_NA = np.full(score_NA.shape, np.nan)
    return OutcomeTable(
        ids,
        tuple(prompts),
        tuple(tasks),
        ids,
        experts,
        score_NA,
        unknown_NA,
        unknown_NA,
        unknown_NA,
        unknown_NA,
        np.ones(score_NA.shape),
    )


@pytest.fixture(scope="module")
def found() -> Quarry:
    return quarry(a_table(0), SIZES, SIZES)


@pytest.fixture(scope="module")
def judge(found: Quarry) -> FleetJudge:
    return FleetJudge(found, a_table(1, 400))


def test_the_fleet_is_the_specialists_where_the_generalist_does_not_fit(found: Quarry) -> None:
    fleet = design(found, Budgets(size=6.0))
    assert fleet.experts == ("chef", "coder")
    assert fleet.expert_of == {"cooking": "chef", "python": "coder"}


def test_a_load_budget_holds_on_average_and_a_size_budget_in_all(found: Quarry) -> None:
    fleet = design(found, Budgets(load=2.0))
    # One specialist for one half of the queries, and what is left pays for the smallest.
    assert sorted(fleet.map.deployed) in ([0, 3], [1, 3])
    assert fleet.map.cost <= 2.0 + 1e-9
    assert design(found, Budgets(size=2.5)).experts == ("tiny",)
    assert "large" in design(found, Budgets(size=16.0), required=("large",)).experts


def test_held_out_queries_tell_what_it_is_worth(found: Quarry, judge: FleetJudge) -> None:
    fleet = design(found, Budgets(size=6.0))
    best, routed, told = judge.best_single(), judge.routed(fleet), judge.told(fleet)
    assert best.name == "best single: large"
    assert best.quality == pytest.approx(0.7, abs=0.07)
    assert routed.quality == pytest.approx(0.9, abs=0.05)
    assert (routed.quality, routed.load, routed.size) == (told.quality, 3.0, 6.0)
    assert routed.gain_interval is not None
    assert 0 < routed.gain_interval.low < routed.gain < routed.gain_interval.high
    within = judge.best_single_within(Budgets(size=6.0))
    assert within is not None
    assert within.quality < 0.6
    assert judge.best_single_within(Budgets(size=0.5)) is None
    tight = judge.best_single_within(Budgets(size=6.0, load=1.0))
    assert tight is not None
    assert tight.name.endswith("tiny")


def test_the_front_rises_with_the_budget_and_repeats_nothing(
    found: Quarry, judge: FleetJudge
) -> None:
    steps = list(front(found, judge, Budgets(), along="size", steps=usual_steps(found, "size")))
    expected = [step.expected for step in steps]
    assert expected == sorted(expected)
    assert len({tuple(sorted(step.fleet.expert_of.items())) for step in steps}) == len(steps) > 1
    assert steps[0].fleet.experts == ("tiny",)
    unfit = front(found, judge, Budgets(size=0.5), along="load", steps=[1.0, 3.0])
    assert list(unfit) == []


def test_what_is_not_listed_is_left_out_and_what_does_not_fit_is_said() -> None:
    listed = {name: size for name, size in SIZES.items() if name != "tiny"}
    found = quarry(a_table(0), listed, SIZES)
    assert found.left_out == ("tiny",)
    with pytest.raises(RoutingError, match="no fleet fits the size budget of 1"):
        design(found, Budgets(size=1.0))
    with pytest.raises(ComparisonError, match="'tiny' has no outcomes or no known size"):
        design(found, Budgets(), required=("tiny",))
    with pytest.raises(ComparisonError, match="of the table's that are chef"):
        quarry(a_table(0), {"chef": 1.0}, SIZES)
    without = replace(a_table(0), tasks=(None,) * 240)
    with pytest.raises(ComparisonError, match="no query of the table has a task"):
        quarry(with_experts(without, ["chef", "large"]), SIZES, SIZES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model,gb\na,x\n", "row 1, column 'gb': must be a number >= 0, got 'x'"),
        ("model,gb\na,-1\n", "row 1, column 'gb': must be a number >= 0, got '-1'"),
        ("model,gb\n,1\n", "row 1, column 'model': must not be empty"),
        ("model,gb\na,1\na,2\n", "row 2, column 'model': 'a' is listed twice"),
        ("model,size\na,1\n", "column 'gb': the column is missing; found 'model', 'size'"),
    ],
)
def test_a_malformed_list_is_refused_by_row_and_column(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "sizes.csv"
    path.write_text(text)
    with pytest.raises(SourceError, match=said):
        read_footprints(path, "gb")


def test_an_empty_cell_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "sizes.csv"
    path.write_text("model,gb\na,1.5\nb,\n")
    assert read_footprints(path, "gb") == {"a": 1.5}
