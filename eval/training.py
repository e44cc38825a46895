"""Trains one router for a comparison: its setting, its sweep over the test side, its times."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from eval.operating import Setting, Sweep, choose_settings, sweep
from eval.pool import Pool
from eval.replay import cards_of, request_of
from experts.cards import Prices
from routers.eligible import Constraints
from routers.fit import fit_router
from routers.records import Preference
from routers.router import Router

_TIMED_DECISIONS = 200


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A router that was trained and replayed.

    Attributes:
        name: The estimator it is made of.
        fit_s: Seconds to train it.
        decide_us_p50: Median microseconds of one decision, from the request to the expert.
        settings: The cost weight to run it at, then one for each loss in `GIVE_UP`, all chosen on
            the training side.
        sweep: What it does on the test side.
    """

    name: str
    fit_s: float
    decide_us_p50: float
    settings: tuple[Setting, ...]
    sweep: Sweep


def train_router(
    name: str, pool: Pool, best: int, cost_weights: Sequence[float], seed: int
) -> Trained:
    """Choose a router's settings, train it on the whole training side, replay it on the test.

    Args:
        name: A name that `routers.registry` knows as an estimator.
        pool: Both tables and the prices.
        best: Column of the best single expert.
        cost_weights: The settings to try.
        seed: Source of all randomness.

    Raises:
        RoutingError: It can't be trained on this table.
    """
    started = time.perf_counter()
    router = fit_router(name, name, pool.train, seed=seed)
    fit_s = time.perf_counter() - started
    decide_us = decision_us_p50(router, pool.test.prompts[:_TIMED_DECISIONS], pool.prices)
    settings = choose_settings(name, pool.train, pool.prices, cost_weights, best, seed)
    found = sweep(router, pool.test, pool.prices, cost_weights)
    return Trained(name, fit_s, decide_us, settings, found)


def decision_us_p50(
    router: Router, prompts: Sequence[str], prices: Mapping[str, Prices | None]
) -> float:
    """Median microseconds that `Router.decide` takes for one prompt, in one thread as it serves."""
    cards = cards_of(prices)
    requests = [request_of(prompt) for prompt in prompts]
    times = []
    with threadpool_limits(limits=1):
        for request in [requests[0], *requests]:
            started = time.perf_counter()
            router.decide(
                request,
                cards,
                preference=Preference(cost_weight=0.1),
                policy_name="balanced",
                constraints=Constraints(),
                unhealthy={},
                uniform=0.5,
            )
            times.append(time.perf_counter() - started)
    return float(np.median(times[1:])) * 1e6
