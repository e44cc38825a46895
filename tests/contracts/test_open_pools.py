"""What every estimator owes that takes in an expert, or lets one go, without training anew."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from routers.base import Estimator, OpenPoolEstimator
from routers.encoders.lexical import HashingEncoder
from routers.errors import RoutingError, TableError
from routers.estimators.safe import SafeEstimator
from routers.features import Featurizer
from routers.records import Estimates, FeatureBatch, Floats, OutcomeTable
from routers.registry import estimator_names, make_estimator, make_wrapper, wrapper_names

WORDS = {"law": "judge court tort appeal", "gene": "cell enzyme protein", "wave": "field force"}
TASKS = tuple(WORDS)
EXPERTS = ("ann", "ben", "dan")
NEW = "cleo"
ROWS = 180

# Those that would take long get settings that don't.
QUICK: dict[str, dict[str, Any]] = {
    "bilinear": {"width": 8, "epochs": 10, "members": 2},
    "contrastive": {"width": 8, "epochs": 10, "clusters": 3},
    "irt": {"abilities": 4, "epochs": 10, "members": 2},
    "mlp": {"units": 8, "epochs": 10, "members": 2},
}
# A wrapper that opens the pool does so whatever it wraps, a table or none.
MADE: dict[str, Estimator] = {
    **{name: make_estimator(name, **QUICK.get(name, {})) for name in estimator_names()},
    **{f"{name}:ridge": make_wrapper(name, make_estimator("ridge")) for name in wrapper_names()},
}
OPEN = sorted(name for name, made in MADE.items() if isinstance(made, OpenPoolEstimator))


def outcomes(experts: tuple[str, ...], score_NA: Floats, seed: int) -> OutcomeTable:
    """Queries of three tasks in turn, with the scores given."""
    chance = np.random.default_rng(seed)
    tasks = tuple(TASKS[row % 3] for row in range(len(score_NA)))
    prompts = tuple(
        f"{task} {' '.join(chance.choice(WORDS[task].split(), 5))} {chance.integers(10**6)}"
        for task in tasks
    )
    ids = tuple(f"{seed}-{row:04d}" for row in range(len(score_NA)))
    unknown_NA = np.full_like(score_NA, np.nan)
    tokens_NA = chance.lognormal(4, 0.5, score_NA.shape)
    return OutcomeTable(
        ids,
        prompts,
        tasks,
        ids,
        experts,
        score_NA,
        unknown_NA,
        tokens_NA,
        unknown_NA,
        tokens_NA / 50,
        np.ones_like(score_NA),
    )


def right(rows: int, chance_NA: Floats | float, experts: int, seed: int) -> Floats:
    drawn_NA = np.random.default_rng(seed).random((rows, experts))
    return (drawn_NA < chance_NA).astype(np.float64)


def probes(rows: int, chance: Floats | float = 0.5, seed: int = 5) -> OutcomeTable:
    return outcomes((NEW,), right(rows, chance, 1, seed), seed)


def featurized(table: OutcomeTable) -> FeatureBatch:
    return Featurizer(HashingEncoder(32)).transform(table.prompts)


@pytest.fixture(scope="module")
def world() -> OutcomeTable:
    """Each of three experts is best at one task."""
    chance_NA = np.where(np.arange(ROWS)[:, None] % 3 == np.arange(3), 0.8, 0.4)
    return outcomes(EXPERTS, right(ROWS, chance_NA, 3, 1), 1)


@pytest.fixture(scope="module", params=OPEN)
def opened(request: pytest.FixtureRequest, world: OutcomeTable) -> OpenPoolEstimator:
    """Fitted on the experts of `world`."""
    made = MADE[request.param].fit(featurized(world), world, np.random.default_rng(0))
    return cast(OpenPoolEstimator, made)


def admitted(opened: OpenPoolEstimator, table: OutcomeTable, about: str = "") -> OpenPoolEstimator:
    return opened.add_expert(NEW, featurized(table), table, about)


def parts(found: Estimates) -> Floats:
    return np.stack([found.quality_NA, found.stderr_NA, found.output_tokens_NA, found.latency_s_NA])


def close(found: Floats, expected: Floats) -> None:
    # Products with a column more or less differ in the last digits, by how many on the processor.
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def new_column(fitted: Estimator, asked: OutcomeTable) -> tuple[Floats, Floats]:
    """Quality and standard error of the newcomer."""
    found = fitted.predict(featurized(asked))
    place = found.experts.index(NEW)
    return found.quality_NA[:, place], found.stderr_NA[:, place]


def test_there_are_estimators_with_open_pools() -> None:
    assert {"category", "cluster", "pilot", "prior", "safe:ridge"} <= set(OPEN)


def test_the_other_experts_stay_what_they_were_and_ids_stay_sorted(
    opened: OpenPoolEstimator, world: OutcomeTable
) -> None:
    before, after = (
        fitted.predict(featurized(world)) for fitted in (opened, admitted(opened, probes(60)))
    )
    assert after.experts == ("ann", "ben", NEW, "dan")
    close(parts(after)[:, :, [0, 1, 3]], parts(before))


def test_what_was_added_and_removed_leaves_no_trace(
    opened: OpenPoolEstimator, world: OutcomeTable
) -> None:
    again = admitted(opened, probes(60)).remove_expert(NEW).predict(featurized(world))
    before = opened.predict(featurized(world))
    assert again.experts == before.experts
    np.testing.assert_array_equal(parts(again), parts(before))


def test_one_of_the_first_experts_can_go_and_come_back_as_a_newcomer(
    opened: OpenPoolEstimator, world: OutcomeTable
) -> None:
    fewer = opened.remove_expert("ben")
    found = fewer.predict(featurized(world))
    assert found.experts == ("ann", "dan")
    table = replace(probes(60), experts=("ben",))
    back = fewer.add_expert("ben", featurized(table), table).predict(featurized(world))
    assert back.experts == EXPERTS
    close(parts(back)[:, :, [0, 2]], parts(found))


def test_adding_leaves_the_estimator_as_it_was(
    opened: OpenPoolEstimator, world: OutcomeTable
) -> None:
    before = parts(opened.predict(featurized(world)))
    admitted(opened, probes(60))
    opened.remove_expert("ann")
    np.testing.assert_array_equal(parts(opened.predict(featurized(world))), before)


def test_the_state_keeps_who_came_and_who_went(
    opened: OpenPoolEstimator, world: OutcomeTable
) -> None:
    changed = admitted(opened, probes(60)).remove_expert("ann")
    found = changed.predict(featurized(world))
    again = type(changed).from_state(changed.state()).predict(featurized(world))
    assert again.experts == found.experts == ("ben", NEW, "dan")
    np.testing.assert_array_equal(parts(again), parts(found))


def test_many_probes_show_how_good_the_newcomer_is(
    opened: OpenPoolEstimator, world: OutcomeTable
) -> None:
    for truth in (0.1, 0.9):
        quality_N, stderr_N = new_column(admitted(opened, probes(1500, truth)), world)
        assert quality_N.mean() == pytest.approx(truth, abs=0.06)
        assert ((stderr_N > 0) & (stderr_N < 0.05)).all()


def test_a_newcomer_as_good_as_the_pool_is_put_below_it(
    opened: OpenPoolEstimator, world: OutcomeTable
) -> None:
    quality_N, stderr_N = new_column(admitted(opened, probes(25, 0.53)), world)
    assert quality_N.mean() < 0.53 - 0.3 * stderr_N.mean()


def test_without_a_probe_the_newcomer_is_most_uncertain(
    opened: OpenPoolEstimator, world: OutcomeTable
) -> None:
    nothing = probes(0)
    quality_N, stderr_N = new_column(admitted(opened, nothing, "good at law"), world)
    _, tried_N = new_column(admitted(opened, probes(25)), world)
    best_N = opened.predict(featurized(world)).quality_NA.max(axis=1)
    assert ((quality_N >= 0) & (quality_N < best_N)).all()
    assert (stderr_N > 0.1).all()
    assert (stderr_N > tried_N).all()


def test_an_expert_that_is_known_is_refused(opened: OpenPoolEstimator) -> None:
    table = replace(probes(30), experts=("ann",))
    with pytest.raises(TableError, match="expert 'ann' is known already; remove it first"):
        opened.add_expert("ann", featurized(table), table)


def test_an_expert_that_is_unknown_cannot_go(opened: OpenPoolEstimator) -> None:
    with pytest.raises(RoutingError, match="there is no expert 'zoe' to remove"):
        opened.remove_expert("zoe")


@pytest.mark.parametrize(
    ("malformed", "fault"),
    [
        (replace(probes(30), experts=("zoe",)), "must be outcomes of it alone.* about 'zoe'"),
        (outcomes((NEW, "zoe"), right(30, 0.5, 2, 5), 5), "must be outcomes of it alone"),
        (replace(probes(30), score_NA=np.full((30, 1), 1.5)), "score .*1.5.* is not in"),
        (replace(probes(30), propensity_NA=np.zeros((30, 1))), "propensity .* is not in"),
    ],
    ids=["of another expert", "of two experts", "score out of range", "propensity out of range"],
)
def test_malformed_probes_are_refused(
    opened: OpenPoolEstimator, malformed: OutcomeTable, fault: str
) -> None:
    with pytest.raises(TableError, match=fault):
        opened.add_expert(NEW, featurized(probes(30)), malformed)


def test_features_of_other_rows_are_refused(opened: OpenPoolEstimator) -> None:
    with pytest.raises(TableError, match="29 rows of features for 30 rows of outcomes"):
        opened.add_expert(NEW, featurized(probes(29)), probes(30))


def test_safe_admission_needs_requests_to_cluster(world: OutcomeTable) -> None:
    inner = make_estimator("ridge").fit(featurized(world), world, np.random.default_rng(0))
    with pytest.raises(RoutingError, match="needs requests to cluster"):
        SafeEstimator.around(inner, featurized(probes(0)), np.random.default_rng(0))
