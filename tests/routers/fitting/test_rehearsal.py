"""What a router keeps of its training for policies that are fitted when it serves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from experts.cards import ExpertCard, Prices
from routers.base import FittedPolicy
from routers.errors import TableError
from routers.fitting.fit import fit_router
from routers.policies.threshold import ThresholdPolicy
from routers.records import OutcomeTable, Preference
from routers.registry import DEFAULT_ESTIMATOR, make_policy, policy_names, policy_params
from routers.router import Router, untrained_router
from routers.storage.artifacts import MANIFEST, load_router, save_router

ANYTHING = Preference()
CARDS = (
    ExpertCard("a", prices=Prices(1, 2)),
    ExpertCard("b", prices=Prices(10, 20, request=0.001)),
    ExpertCard("new", quality_prior=0.7, composed=True),
)


def a_table(rows: int = 120, groups: int = 120) -> OutcomeTable:
    rng = np.random.default_rng(0)
    score_NA = (rng.random((rows, 2)) < 0.5).astype(float)
    score_NA[0, 1] = np.nan
    tokens_NA = np.tile([100.0, 200.0], (rows, 1))
    return OutcomeTable(
        tuple(f"q{i:04}" for i in range(rows)),
        tuple(f"question {rng.integers(1000)} of {i}" for i in range(rows)),
        (None,) * rows,
        tuple(f"g{i % groups}" for i in range(rows)),
        ("a", "b"),
        score_NA,
        tokens_NA,
        np.where(np.isnan(score_NA), np.nan, 3 * tokens_NA),
        np.full_like(score_NA, 0.5),
        np.full_like(score_NA, np.nan),
        np.ones_like(score_NA),
    )


@pytest.fixture(scope="module")
def router() -> Router:
    return fit_router("r", "knn", a_table(), seed=0)


def test_it_is_the_same_after_a_round_trip(router: Router, tmp_path: Path) -> None:
    save_router(router, tmp_path / "r")
    before, after = router.rehearsal, load_router(tmp_path / "r").rehearsal
    assert before is not None
    assert after is not None
    assert len(before) == 120
    for one, other in zip(before.state()[1].values(), after.state()[1].values(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(before.score_NA, after.score_NA)


@pytest.mark.parametrize(
    ("estimator", "calibrate"), [("knn", True), ("knn", False), (DEFAULT_ESTIMATOR, True)]
)
def test_estimates_are_of_fits_that_had_not_seen_the_row(estimator: str, calibrate: bool) -> None:
    table = a_table(1500, groups=1500)
    noise = fit_router("r", estimator, table, seed=0, calibrate=calibrate).rehearsal
    assert noise is not None
    told_NA = ~np.isnan(noise.score_NA)
    # Scores are coins: whoever has seen them knows them, and nobody else does.
    together = np.corrcoef(noise.estimates.quality_NA[told_NA], noise.score_NA[told_NA])[0, 1]
    assert together < 0.1


def test_of_near_identical_queries_one_is_kept() -> None:
    grouped = fit_router("r", "prior", a_table(120, groups=30), seed=0).rehearsal
    assert grouped is not None
    assert len(grouped) == 30


def test_one_group_leaves_nothing_out() -> None:
    assert fit_router("r", "prior", a_table(20, groups=1), seed=0).rehearsal is None


def test_practice_is_at_the_prices_of_now_and_knows_new_experts_by_their_cards(
    router: Router,
) -> None:
    practice = router.practice(CARDS[::-1], ANYTHING)
    assert practice.experts == ("a", "b", "new")
    assert len(practice) == 120
    read, written = 200, 600
    known_N = ~np.isnan(practice.score_NA[:, 1])
    paid = (read * 10 + written * 20) / 1e6 + 0.001
    np.testing.assert_allclose(practice.paid_usd_NA[known_N, 1], paid, rtol=1e-6)
    assert np.isnan(practice.score_NA[:, 2]).all()
    assert {query.quality_A[2] for query in practice.queries} == {0.7}
    assert practice.composed == {"new"}


def test_costs_whose_tokens_are_unknown_are_as_they_were_recorded(router: Router) -> None:
    assert router.rehearsal is not None
    unknown_NA = np.full_like(router.rehearsal.read_NA, np.nan)
    without = replace(router, rehearsal=replace(router.rehearsal, read_NA=unknown_NA))
    practice = without.practice(CARDS, ANYTHING)
    np.testing.assert_allclose(practice.paid_usd_NA[:, :2], 0.5)


def test_who_kept_none_says_so(router: Router) -> None:
    with pytest.raises(TableError, match="router 'u' kept no rehearsal"):
        untrained_router("u").practice(CARDS, ANYTHING)
    with pytest.raises(TableError, match="no expert answers chats"):
        router.practice([ExpertCard("e", api="embeddings")], ANYTHING)


def test_an_artifact_without_policy_parameters_or_rehearsal_is_as_it_always_was(
    router: Router, tmp_path: Path
) -> None:
    save_router(replace(router, rehearsal=None), tmp_path / "old")
    manifest = orjson.loads((tmp_path / "old" / MANIFEST).read_bytes())
    assert manifest["policy"] == "greedy"
    assert "rehearsal" not in manifest
    assert load_router(tmp_path / "old").rehearsal is None


def test_the_parameters_of_a_policy_are_part_of_the_artifact(
    router: Router, tmp_path: Path
) -> None:
    policy = ThresholdPolicy(0.3).fit(router.practice(CARDS[:2], ANYTHING), ANYTHING)
    save_router(replace(router, policy=policy), tmp_path / "r")
    assert load_router(tmp_path / "r").policy == policy


@pytest.mark.parametrize("name", policy_names())
def test_every_policy_can_be_fitted_to_a_router_and_made_again(router: Router, name: str) -> None:
    policy = make_policy(name)
    practice = router.practice(CARDS[:2], ANYTHING)
    if isinstance(policy, FittedPolicy):
        assert not policy.is_fitted
        policy = policy.fit(practice, ANYTHING)
        assert policy.is_fitted
    again = make_policy(name, **orjson.loads(orjson.dumps(policy_params(policy))))
    for query in practice.queries[:10]:
        one, other = (each.distribution(query, ANYTHING) for each in (policy, again))
        np.testing.assert_array_equal(one, other)
