"""Values read off a log: identities that hold exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from eval.errors import OffPolicyError
from eval.ope.candidate import always
from eval.ope.judge import difference, judge, served_terms
from eval.ope.logged import Logged
from eval.ope.rewards import Rewards, rewards
from eval.ope.spread import bernstein, normal, stderr
from eval.ope.study import worth_per_usd
from eval.ope.support import support
from eval.ope.values import ESTIMATORS, Parts, RatioTerms, clipped, gentle, optimistic, switched
from eval.replay.operating import WORTH
from routers.encoders.lexical import HashingEncoder
from routers.features import Featurizer
from routers.records import Floats, OutcomeTable

ROWS, EXPERTS = 400, ("ann", "ben", "cleo")
SERVED_A = np.array([0.6, 0.3, 0.1])


def a_log(seed: int = 0, rows: int = ROWS, served_A: Floats = SERVED_A) -> Logged:
    """One expert drawn per request; ben is better on the odd ones."""
    rng = np.random.default_rng(seed)
    truth_NA = np.stack(
        [np.full(rows, 0.5), np.arange(rows) % 2 * 0.6 + 0.2, np.full(rows, 0.7)], 1
    )
    chosen_N = rng.choice(3, size=rows, p=served_A)
    seen_NA = np.arange(3) == chosen_N[:, None]
    score_NA = np.where(seen_NA, rng.random((rows, 3)) < truth_NA, np.nan).astype(np.float64)
    cost_NA = np.where(seen_NA, [0.01, 0.02, 0.05], np.nan)
    ids = tuple(f"q{row:04d}" for row in range(rows))
    unknown_NA = np.full((rows, 3), np.nan)
    table = OutcomeTable(
        query_ids=ids,
        prompts=tuple(f"{'odd' if row % 2 else 'even'} number {row}" for row in range(rows)),
        tasks=(None,) * rows,
        groups=ids,
        experts=EXPERTS,
        score_NA=score_NA,
        prompt_tokens_NA=unknown_NA,
        output_tokens_NA=unknown_NA,
        cost_usd_NA=cost_NA,
        latency_s_NA=unknown_NA,
        propensity_NA=np.where(seen_NA, served_A, np.nan),
    )
    return Logged.of(table, np.tile(served_A, (rows, 1)))


def known(logged: Logged, model: float = 0.4) -> Rewards:
    table = logged.table
    shape = table.score_NA.shape
    return Rewards(
        table.score_NA,
        table.cost_usd_NA,
        np.full(shape, model),
        np.tile([0.01, 0.02, 0.05], (shape[0], 1)),
    )


def parts(logged: Logged, target_NA: Floats, model: float = 0.4) -> Parts:
    found = known(logged, model)
    return Parts.of(logged, target_NA, found.score_NA, found.score_model_NA)


def constant(logged: Logged, target_A: list[float]) -> Floats:
    return np.tile(np.array(target_A), (len(logged), 1))


def test_on_policy_every_weighted_estimator_is_the_mean() -> None:
    logged = a_log()
    taken = parts(logged, constant(logged, SERVED_A.tolist()), model=0.0)
    mean = float(np.nansum(logged.table.score_NA)) / len(logged)
    for name in ("ips", "snips", "dr"):
        assert ESTIMATORS[name](taken).value == pytest.approx(mean)


def test_dr_is_dm_without_weights_and_ips_without_a_model() -> None:
    logged = a_log()
    target_NA = constant(logged, [0.0, 1.0, 0.0])
    taken = parts(logged, target_NA)
    weightless = replace(taken, weight_NA=np.zeros_like(taken.weight_NA))
    assert ESTIMATORS["dr"](weightless).value == ESTIMATORS["dm"](taken).value
    assert ESTIMATORS["dr"](parts(logged, target_NA, model=0.0)).value == pytest.approx(
        ESTIMATORS["ips"](taken).value
    )


def test_where_everybody_was_asked_the_value_is_exact_whatever_the_model() -> None:
    logged = a_log()
    rng = np.random.default_rng(1)
    full_NA = rng.random(logged.table.score_NA.shape)
    table = replace(logged.table, score_NA=full_NA, propensity_NA=np.ones_like(full_NA))
    asked = Logged.of(table)
    target_NA = rng.dirichlet(np.ones(3), size=len(asked))
    taken = Parts.of(asked, target_NA, full_NA, np.full_like(full_NA, 0.9))
    truth = float((target_NA * full_NA).sum(axis=1).mean())
    assert ESTIMATORS["ips"](taken).value == pytest.approx(truth)
    assert ESTIMATORS["dr"](taken).value == pytest.approx(truth)


def test_shrunk_weights_are_no_larger_and_tend_to_the_weights() -> None:
    weight_NA = np.array([[0.0, 0.5, 1.0, 3.0, 40.0]])
    for shrink in (clipped, switched):
        assert (shrink(weight_NA) <= weight_NA).all()
        np.testing.assert_array_equal(shrink(weight_NA, 1e9), weight_NA)
    assert (optimistic(weight_NA) <= weight_NA).all()
    np.testing.assert_allclose(optimistic(weight_NA, 1e9), weight_NA, rtol=1e-5)
    np.testing.assert_allclose(gentle(weight_NA, 0.0), weight_NA)
    np.testing.assert_allclose(gentle(weight_NA, 1 - 1e-9)[weight_NA > 0], 1.0)
    assert switched(weight_NA)[0, -1] == 0.0


def test_the_standard_error_is_the_spread_over_repetitions() -> None:
    target = [0.2, 0.6, 0.2]
    found = []
    for seed in range(300):
        logged = a_log(seed)
        terms = ESTIMATORS["snips"](parts(logged, constant(logged, target)))
        found.append((terms.value, stderr(terms, logged.table.groups)))
    values, errors = np.array(found).T
    assert errors.mean() == pytest.approx(values.std(), rel=0.12)


def test_rows_of_one_conversation_count_once() -> None:
    logged = a_log()
    doubled = Logged.of(logged.table.take(np.repeat(np.arange(len(logged)), 2)))
    target_NA = constant(logged, [0.2, 0.6, 0.2])
    one = ESTIMATORS["ips"](parts(logged, target_NA))
    two = ESTIMATORS["ips"](parts(doubled, np.repeat(target_NA, 2, axis=0)))
    groups = doubled.table.groups
    assert stderr(two, groups) == pytest.approx(stderr(one, logged.table.groups))
    alone = tuple(str(row) for row in range(len(groups)))
    assert stderr(two, alone) < 0.8 * stderr(two, groups)


def test_the_bound_that_holds_for_any_size_is_wider() -> None:
    logged = a_log()
    terms = ESTIMATORS["dr"](parts(logged, constant(logged, SERVED_A.tolist())))
    groups = logged.table.groups
    safe, usual = bernstein(terms, groups, width=3.0), normal(terms, groups)
    assert safe is not None
    assert usual is not None
    assert safe.low < usual.low < terms.value < usual.high < safe.high


def test_the_longest_conversation_counts_in_the_bound_as_far_as_it_may_be_off() -> None:
    terms = RatioTerms(np.zeros(400), np.ones(400))
    groups = ["long"] * 10 + [f"q{row}" for row in range(390)]
    found = bernstein(terms, groups, width=3.0)
    assert found is not None
    # Nothing varies here: what is left is 7 b ln(2/δ) / (3 (n − 1)) over 391 conversations.
    largest = 3.0 * 10 * 391 / 400
    assert found.high == pytest.approx(7 * largest * np.log(2 / 0.05) / (3 * 390))


def test_what_served_has_the_value_of_a_candidate_that_does_the_same() -> None:
    logged = a_log()
    same_NA = constant(logged, SERVED_A.tolist())
    found = judge(logged, same_NA, known(logged), replicates=50)
    for objective in ("quality", "cost", "utility"):
        gain = found.gains[objective]
        assert gain.value == pytest.approx(0)
        assert gain.stderr == pytest.approx(0)


def test_a_gain_is_surer_than_the_two_values_it_is_between() -> None:
    logged = a_log()
    target_NA = constant(logged, [0.5, 0.4, 0.1])
    found = judge(logged, target_NA, known(logged), replicates=50)
    assert found.gains["quality"].stderr < 0.6 * found.values["quality"]["dr"].stderr


def test_without_the_serving_distribution_answers_speak_for_what_served() -> None:
    logged = Logged.of(a_log().table)
    found = known(logged)
    own = served_terms(logged, found.score_NA, found.score_model_NA)
    assert own.value == pytest.approx(np.nanmean(logged.table.score_NA))
    assert difference(own, own).value == 0


def test_models_speak_of_rows_that_they_have_not_seen() -> None:
    logged = a_log()
    features = Featurizer(HashingEncoder(64)).transform(logged.table.prompts)
    first = rewards(logged, features, np.random.default_rng(0)).score_model_NA
    flipped_NA = logged.table.score_NA.copy()
    row = 7
    column = int(np.flatnonzero(~np.isnan(flipped_NA[row]))[0])
    flipped_NA[row, column] = 1 - flipped_NA[row, column]
    changed = replace(logged, table=replace(logged.table, score_NA=flipped_NA))
    second = rewards(changed, features, np.random.default_rng(0)).score_model_NA
    np.testing.assert_array_equal(first[row], second[row])
    assert not np.array_equal(first, second)
    assert np.isfinite(first).all()


def test_costs_are_expected_where_they_were_seen_and_nowhere_else() -> None:
    logged = a_log(served_A=np.array([0.7, 0.3, 0.0]))
    features = Featurizer(HashingEncoder(64)).transform(logged.table.prompts)
    expected_NA = rewards(logged, features, np.random.default_rng(0)).cost_model_NA
    np.testing.assert_allclose(expected_NA[:, 0], 0.01, rtol=1e-6)
    assert np.isnan(expected_NA[:, 2]).all()


@pytest.mark.parametrize(
    ("target", "fault"),
    [([0.5, 0.2, 0.1], "are no distribution"), ([1.5, -0.5, 0.0], "are no distribution")],
)
def test_choices_that_are_no_distribution_are_refused(target: list[float], fault: str) -> None:
    logged = a_log()
    with pytest.raises(OffPolicyError, match=fault):
        judge(logged, constant(logged, target), known(logged))


def test_asking_who_could_not_serve_is_refused() -> None:
    logged = a_log()
    eligible_NA = logged.eligible_NA.copy()
    eligible_NA[3, 1] = False
    with pytest.raises(OffPolicyError, match="would ask 'ben' on 'q0003'"):
        judge(replace(logged, eligible_NA=eligible_NA), constant(logged, [0, 1, 0]), known(logged))


def test_it_refuses_where_the_log_has_never_been() -> None:
    logged = a_log(served_A=np.array([0.7, 0.3, 0.0]))
    found = judge(logged, constant(logged, [0.5, 0.3, 0.2]), known(logged))
    assert found.values == {}
    assert found.support.unsupported == pytest.approx(0.2)
    [why] = found.refused
    assert "'cleo' (20.0%)" in why


def test_it_refuses_what_few_rows_speak_for() -> None:
    logged = a_log(rows=120)
    found = judge(logged, constant(logged, [0.0, 0.0, 1.0]), known(logged))
    assert any("are worth" in why for why in found.refused)


@pytest.mark.parametrize("recorded", [np.nan, 0.0])
def test_it_refuses_where_a_chance_is_not_known(recorded: float) -> None:
    logged = a_log()
    chance_NA = logged.table.propensity_NA.copy()
    row = int(np.flatnonzero(logged.seen[:, 2])[0])
    chance_NA[row, 2] = recorded
    off = replace(logged, table=replace(logged.table, propensity_NA=chance_NA))
    # Of 0 / 0 and of 1 / 0 alike.
    for target_A in ([0.5, 0.5, 0.0], [0.2, 0.3, 0.5]):
        with np.errstate(divide="ignore", invalid="ignore"):
            found = judge(off, np.tile(target_A, (ROWS, 1)), known(off), replicates=2)
        assert found.refused
        assert found.values == {}


def test_it_warns_of_propensities_that_do_not_fit() -> None:
    logged = a_log()
    lying = replace(logged.table, propensity_NA=logged.table.propensity_NA / 2)
    found = judge(replace(logged, table=lying), constant(logged, [0.6, 0.3, 0.1]), known(logged))
    [warning] = found.support.warnings
    assert "weights average 2.000" in warning
    honest = judge(logged, constant(logged, [0.6, 0.3, 0.1]), known(logged), replicates=50)
    assert honest.support.warnings == ()


def test_a_long_log_may_count_a_rare_choice_more_often() -> None:
    served_A = np.array([0.6, 0.39, 0.01])
    target = [0.0, 0.0, 1.0]
    short, long = (a_log(rows=rows, served_A=served_A) for rows in (1500, 20_000))
    few, many = (support(logged, constant(logged, target)) for logged in (short, long))
    assert few.weight_max == many.weight_max == pytest.approx(100)
    assert any("one request would count 100 times; at most 75 is" in why for why in few.refusals)
    assert many.refusals == ()


def test_a_candidate_whose_cost_nobody_knows_costs_something_unknown() -> None:
    """Not nothing: then whoever is asked for free would be the best."""
    logged = a_log()
    told = known(logged)
    cost_NA, model_NA = told.cost_NA.copy(), told.cost_model_NA.copy()
    cost_NA[:, 2] = model_NA[:, 2] = np.nan
    told = Rewards(told.score_NA, cost_NA, told.score_model_NA, model_NA)
    found = judge(logged, np.tile(SERVED_A, (ROWS, 1)), told, replicates=2)
    assert found.cost_known == pytest.approx(0.9)
    assert set(found.values) == set(found.gains) == {"quality"}
    without = judge(logged, np.tile([0.7, 0.3, 0.0], (ROWS, 1)), told, replicates=2)
    assert set(without.values) == {"quality", "cost", "utility"}


def test_where_the_one_could_not_serve_anybody_who_could_takes_its_place() -> None:
    logged = a_log()
    eligible_NA = np.ones((ROWS, 3), dtype=bool)
    eligible_NA[0, 1] = eligible_NA[1, :2] = False
    target_NA = always(replace(logged, eligible_NA=eligible_NA), "ben")
    assert target_NA[:3].tolist() == [[0.5, 0, 0.5], [0, 0, 1], [0, 1, 0]]
    with pytest.raises(OffPolicyError, match="no expert 'dan'; it has ann, ben, cleo"):
        always(logged, "dan")


def test_models_of_rewards_weigh_what_was_rarely_seen_the_more() -> None:
    """Of one and the same question half of the answers had a tenth of the chance."""
    logged, rare_N = a_log(), np.arange(ROWS) % 2 == 0
    score_NA, chance_NA = np.full((ROWS, 3), np.nan), np.full((ROWS, 3), np.nan)
    score_NA[:, 0] = rare_N
    chance_NA[:, 0] = np.where(rare_N, 0.1, 0.9)
    table = replace(logged.table, score_NA=score_NA, propensity_NA=chance_NA)
    features = Featurizer(HashingEncoder(8)).transform(["the same"] * ROWS)
    found = rewards(replace(logged, table=table), features, np.random.default_rng(0))
    assert found.score_model_NA[:, 0].mean() == pytest.approx(0.9, abs=0.01)


def test_a_dollar_is_worth_what_was_spent_by_what_served_alone() -> None:
    logged = a_log(rows=10)
    cost_NA = np.tile([0.01, np.nan, 0.05], (10, 1))
    table = replace(
        logged.table, cost_usd_NA=cost_NA, propensity_NA=np.tile([1.0, np.nan, 0.1], (10, 1))
    )
    aside_NA = np.tile([0.0, 0.0, 0.1], (10, 1))
    served_NA = np.tile([1.0, 0.0, 0.0], (10, 1))
    shadowed = replace(logged, table=table, logged_NA=served_NA, aside_NA=aside_NA)
    assert worth_per_usd(shadowed) == pytest.approx(WORTH / 0.01)
    assert worth_per_usd(replace(shadowed, aside_NA=None)) == pytest.approx(WORTH / 0.03)
    free = replace(shadowed, table=replace(table, cost_usd_NA=0 * cost_NA))
    assert worth_per_usd(free) == 0.0
