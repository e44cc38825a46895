"""Cascade routing holds routing and cascades as its ends, and is better than both in between."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import combinations

import numpy as np
import pytest

from routers.cascading.posterior import LearnedPosterior, OwnSignal, Seen
from routers.cascading.replay import Replay
from routers.cascading.routing import CascadeRouting, Members
from routers.errors import TableError
from routers.records import Floats

EXPERTS = ("small", "middle", "large")
USD = np.array([0.1, 0.5, 3.0])


def world(
    count: int = 1500, seed: int = 0, sharpness: float = 1.0
) -> tuple[Seen, Floats, Floats, list[str]]:
    """Chances that are known before asking but for noise, and a signal after that knows more.

    Args:
        count: Requests.
        seed: Of all chance.
        sharpness: How much of whether an answer is right its signal tells, in [0, 1].
    """
    rng = np.random.default_rng(seed)
    hard_N1 = rng.normal(size=(count, 1))
    chance_NA = 1 / (1 + np.exp(1.5 * hard_N1 - np.array([0.0, 0.8, 2.0]) + rng.normal(
        scale=0.7, size=(count, 3)
    )))  # fmt: skip
    score_NA = np.where(rng.uniform(size=(count, 3)) < chance_NA, 1.0, 0.0)
    known_N1 = hard_N1 + rng.normal(scale=0.5, size=hard_N1.shape)
    ante_NA = 1 / (1 + np.exp(1.2 * known_N1 - np.array([0.0, 0.8, 2.0])))
    signal_NA = sharpness * (0.02 + 0.96 * score_NA) + (1 - sharpness) * ante_NA
    usd_NA = np.tile(USD, (count, 1)) * rng.uniform(0.8, 1.2, size=(count, 3))
    return Seen(ante_NA, signal_NA), score_NA, usd_NA, [str(row) for row in range(count)]


@cache
def fitted(sharpness: float = 1.0, *, learn: bool = False, depth: int = 3) -> CascadeRouting:
    seen, score_NA, _, groups = world(sharpness=sharpness)
    rng = np.random.default_rng(1)
    return CascadeRouting.fit(EXPERTS, seen, score_NA, groups, rng, depth=depth, learn=learn)


@pytest.mark.parametrize("price", [0.0, 0.05, 0.3, 2.0])
def test_with_one_answer_it_is_routing(price: float) -> None:
    seen, _, usd_NA, _ = world(400, seed=5)
    trip = Replay(fitted(), seen, usd_NA).run(price, depth=1)
    assert (trip.chosen_N == (seen.ante_NA - price * usd_NA).argmax(axis=1)).all()
    assert (trip.ran_NA.sum(axis=1) == 1).all()


@pytest.mark.parametrize("price", [0.02, 0.1, 0.4])
def test_where_the_first_draft_is_forced_and_only_its_signal_counts_it_is_a_threshold(
    price: float,
) -> None:
    """Two experts of which the second's quality is known: the draft is deferred below it."""
    rng = np.random.default_rng(2)
    count = 600
    ante_NA = np.tile([0.6, 0.9], (count, 1))
    signal_NA = np.stack([rng.uniform(size=count), np.full(count, 0.9)], axis=1)
    score_NA = np.where(rng.uniform(size=(count, 2)) < signal_NA, 1.0, 0.0)
    usd_NA = np.tile([1e-6, 1.0], (count, 1))
    groups = [str(row) for row in range(count)]
    seen = Seen(ante_NA, signal_NA)
    rule = CascadeRouting.fit(("a", "b"), seen, score_NA, groups, rng, learn=False)
    # Nothing is gained or lost by noise that is not there: `b`'s signal is its expectation.
    rule = replace(rule, optimism_DD=np.zeros((3, 3)))
    trip = Replay(rule, seen, usd_NA).run(price)
    kept_N = ~trip.ran_NA[:, 1]
    assert trip.ran_NA[:, 0].all()
    assert (kept_N == (signal_NA[:, 0] >= 0.9 - price)).all()


def test_as_signals_get_sharper_it_approaches_the_oracle() -> None:
    seen, score_NA, usd_NA, _ = world(3000, seed=9)
    oracle = score_NA.max(axis=1).mean()
    reached = []
    for sharpness in (0.0, 0.5, 1.0):
        seen, score_NA, usd_NA, _ = world(3000, seed=9, sharpness=sharpness)
        trip = Replay(fitted(sharpness), seen, usd_NA).run(0.0)
        reached.append(trip.score(score_NA).mean())
    assert reached[0] < reached[1] <= reached[2]
    assert reached[2] == pytest.approx(oracle, abs=0.005)
    routed = Replay(fitted(), seen, usd_NA).run(0.0, depth=1).score(score_NA).mean()
    assert reached[2] > routed + 0.02


@pytest.mark.parametrize("learn", [False, True])
def test_a_budget_is_met_within_2_percent_on_new_requests(*, learn: bool) -> None:
    rule = fitted(0.4, learn=learn)
    # A large one that is not too dear, so that chance moves the mean of 10,000 by .7 percent.
    known, new = (
        (seen, usd_NA * np.array([1.0, 1.0, 0.4]))
        for seen, _, usd_NA, _ in (world(10_000, seed, sharpness=0.4) for seed in (3, 4))
    )
    fit, judged = Replay(rule, *known), Replay(rule, *new)
    for budget in (0.5, 0.9):
        spent_N = judged.run(fit.price_for(budget)).usd(new[1])
        assert spent_N.mean() == pytest.approx(budget, rel=0.02)


def test_what_money_is_no_object_for_needs_no_price() -> None:
    seen, _, usd_NA, _ = world(200, seed=3)
    assert Replay(fitted(), seen, usd_NA).price_for(100.0) == 0.0


@pytest.mark.parametrize("ran", [(), (0,), (1, 2)])
def test_growing_sets_finds_what_trying_all_sets_finds(ran: Members) -> None:
    rule = fitted(0.6)
    # What is learned of one answer does not hang on who else is asked.
    rule = replace(rule, optimism_DD=np.zeros((4, 4)))
    rng = np.random.default_rng(7)
    rest = [expert for expert in range(3) if expert not in ran]
    for _ in range(60):
        quality_A, usd_A = rng.uniform(size=3), rng.uniform(0.1, 2, size=3)
        price = float(rng.choice([0.0, 0.02, 0.1, 0.5]))
        sets = [
            tuple(sorted((*ran, *more)))
            for size in range(len(rest) + 1)
            for more in combinations(rest, size)
            if ran or more
        ]

        def value(
            members: Members,
            quality_A: Floats = quality_A,
            usd_A: Floats = usd_A,
            price: float = price,
        ) -> float:
            worth = float(rule.worth(ran, quality_A[None], members)[0])
            return worth - price * float(sum(usd_A[e] for e in members if e not in ran))

        best = rule.best_set(ran, quality_A, usd_A, price)
        assert value(best) == pytest.approx(max(map(value, sets)), abs=2e-3)


def test_who_is_asked_next_is_whom_the_replay_asks() -> None:
    rule = fitted(0.5, learn=True)
    seen, _, usd_NA, _ = world(40, seed=11, sharpness=0.5)
    trip = Replay(rule, seen, usd_NA).run(0.08)
    for row in range(len(seen)):
        one = seen.take(np.array([row]))
        ran: Members = ()
        while True:
            mask = np.isin(np.arange(3), ran)
            quality_A = rule.posterior.quality(mask, one)[0]
            following = rule.next_expert(ran, quality_A, usd_NA[row], 0.08)
            if following is None:
                break
            ran = tuple(sorted((*ran, following)))
        assert ran == tuple(np.flatnonzero(trip.ran_NA[row]))
        assert trip.chosen_N[row] == max(ran, key=lambda expert: quality_A[expert])


def test_an_answer_that_others_agree_with_is_expected_to_be_right() -> None:
    rng = np.random.default_rng(0)
    count = 2000
    right_NA = rng.uniform(size=(count, 3)) < 0.6
    said_NA = np.where(right_NA, 0, rng.integers(1, 5, size=(count, 3)))
    same_NAA = np.where(said_NA[:, :, None] == said_NA[:, None, :], 1.0, 0.0)
    flat = np.full((count, 3), 0.6)
    seen = Seen(flat, flat, same_NAA)
    posterior = LearnedPosterior.fit(seen, np.where(right_NA, 1.0, 0.0), 3, rng)
    quality_N = posterior.quality(np.array([True, True, False]), seen)[:, 0]
    agreed = said_NA[:, 0] == said_NA[:, 1]
    assert quality_N[agreed].mean() == pytest.approx(right_NA[agreed, 0].mean(), abs=0.04)
    assert quality_N[~agreed].mean() == pytest.approx(right_NA[~agreed, 0].mean(), abs=0.04)
    assert right_NA[agreed, 0].mean() > 0.85


@pytest.mark.parametrize("learn", [False, True])
def test_it_comes_back_from_its_state(*, learn: bool) -> None:
    rule = fitted(0.5, learn=learn, depth=2)
    again = CascadeRouting.from_state(rule.state())
    seen, _, usd_NA, _ = world(300, seed=13, sharpness=0.5)
    first, second = (Replay(each, seen, usd_NA).run(0.05) for each in (rule, again))
    assert (first.chosen_N == second.chosen_N).all()
    assert (first.ran_NA == second.ran_NA).all()
    assert isinstance(again.posterior, OwnSignal) is not learn


def test_too_few_requests_are_refused() -> None:
    seen, score_NA, _, groups = world(10)
    with pytest.raises(TableError, match="needs 20 requests"):
        CascadeRouting.fit(EXPERTS, seen, score_NA, groups, np.random.default_rng(0))
