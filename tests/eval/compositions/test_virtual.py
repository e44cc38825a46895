"""Compositions answer what follows from recorded answers, and pay for all they ask."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from eval.compositions.offered import offered
from eval.compositions.virtual import (
    Agreed,
    Cascaded,
    Composition,
    Picked,
    Voted,
    with_compositions,
)
from eval.compositions.world import CompositionWorld, Side, make_world, simulated_agreement
from eval.errors import ComparisonError
from routers.deferral.chain import Chain
from routers.deferral.threshold import DeferralThreshold
from tests.eval.compositions.recorded import EXPERTS, USD, recorded


@pytest.fixture(scope="module")
def world() -> CompositionWorld:
    return make_world(
        recorded(120, 0), recorded(80, 1), EXPERTS, estimator="ridge+hashing", judge="hashing"
    )


def chain(*experts: str, at: float = 0.5) -> Cascaded:
    return Cascaded(Chain(experts, (DeferralThreshold(at),) * (len(experts) - 1), 0, 0))


def test_signals_of_both_sides_are_of_answers_not_seen_and_tell_right_from_wrong(
    world: CompositionWorld,
) -> None:
    for side in (world.train, world.test):
        right = side.table.score_NA == 1
        assert side.seen.signal_NA[right].mean() > side.seen.signal_NA[~right].mean() + 0.3


def test_a_cascade_pays_for_its_drafts_and_gives_the_last_answer(world: CompositionWorld) -> None:
    side = world.test
    happened = chain("small", "dear").on(side)
    deferred_N = side.seen.signal_NA[:, 1] < 0.5
    assert 0 < deferred_N.mean() < 1
    assert (happened.usd(side.table) == np.where(deferred_N, USD[1] + USD[0], USD[1])).all()
    score_NA = side.table.score_NA
    assert (happened.score_N == np.where(deferred_N, score_NA[:, 0], score_NA[:, 1])).all()
    assert happened.asked_NA.mean(axis=0) == pytest.approx([deferred_N.mean(), 1.0, 0.0])


def test_a_vote_follows_the_majority_and_the_first_where_there_is_none(
    world: CompositionWorld,
) -> None:
    side = world.test
    happened = Voted(("small", "tiny", "dear")).on(side)
    score_NA = side.table.score_NA
    # Wrong answers of different experts differ here, so two right ones are a majority.
    majority_N = score_NA.sum(axis=1) >= 2
    assert (happened.score_N == np.where(majority_N, 1.0, score_NA[:, 1])).all()
    assert (happened.usd(side.table) == USD.sum()).all()


def test_where_two_agree_the_third_is_not_asked(world: CompositionWorld) -> None:
    side = world.test
    happened = Agreed(("small", "tiny"), "dear").on(side)
    score_NA = side.table.score_NA
    both_N = (score_NA[:, 1] == 1) & (score_NA[:, 2] == 1)
    assert (happened.score_N == np.where(both_N, 1.0, score_NA[:, 0])).all()
    assert happened.usd(side.table) == pytest.approx(1.5 + 10 * ~both_N)


def test_the_best_of_several_is_what_looks_best_not_what_is(world: CompositionWorld) -> None:
    side = world.test
    happened = Picked(("small", "tiny")).on(side)
    looks_N = side.seen.signal_NA[:, 1] >= side.seen.signal_NA[:, 2]
    score_NA = side.table.score_NA
    assert (happened.score_N == np.where(looks_N, score_NA[:, 1], score_NA[:, 2])).all()
    assert happened.score_N.mean() < score_NA[:, 1:].max(axis=1).mean()


def test_what_is_offered_is_beaten_by_nothing_and_stands_beside_the_experts(
    world: CompositionWorld,
) -> None:
    found = offered(world.train)
    assert any(isinstance(each, Cascaded) for each in found)
    table = with_compositions(world.test, found)
    assert set(EXPERTS) < set(table.experts)
    assert len(table.experts) == 3 + len(found)
    assert list(table.experts) == sorted(table.experts)
    for each in found:
        column = table.experts.index(each.name)
        assert (table.score_NA[:, column] == each.on(world.test).score_N).all()
        assert (table.cost_usd_NA[:, column] >= 0.5).all()
    dear = table.experts.index("dear")
    assert (table.score_NA[:, dear] == world.test.table.score_NA[:, 0]).all()


def test_two_of_a_name_are_refused(world: CompositionWorld) -> None:
    twice: list[Composition] = [chain("small", "dear"), chain("small", "dear")]
    with pytest.raises(ComparisonError, match="share a name"):
        with_compositions(world.test, twice)


def test_votes_need_answers(world: CompositionWorld) -> None:
    side = world.test
    mute = Side(side.table, side.drafts, type(side.seen)(*(2 * [side.seen.ante_NA])), side.usd_NA)
    for composition in (Voted(("small", "tiny")), Agreed(("small", "tiny"), "dear")):
        with pytest.raises(ComparisonError, match="say the same"):
            composition.on(mute)


def test_simulated_agreement_has_right_ones_alike_and_wrong_ones_by_chance() -> None:
    rng = np.random.default_rng(0)
    score_NA = np.where(rng.uniform(size=(20_000, 2)) < 0.5, 1.0, 0.0)
    alike_N = simulated_agreement(score_NA, 0.4, rng)[:, 0, 1]
    total_N = score_NA.sum(axis=1)
    assert (alike_N[total_N == 2] == 1).all()
    assert (alike_N[total_N == 1] == 0).all()
    assert alike_N[total_N == 0].mean() == pytest.approx(0.4, abs=0.02)


def test_a_file_without_answers_or_samples_is_refused() -> None:
    table, drafts = recorded(60)
    silent = replace(drafts, answers_NA=((None,) * 3,) * 60)
    with pytest.raises(ComparisonError, match="neither the experts' answers"):
        make_world((table, silent), (table, silent), EXPERTS, estimator="ridge+hashing")
