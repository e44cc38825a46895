"""Trains one router for a comparison: its setting, its sweep over the test side, its times."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from eval.metrics.robustness import Changed, Columns, Disturbed, Robustness, disturb, robustness
from eval.replay.batches import make_batch
from eval.replay.operating import Fit, Setting, Sweep, choose_settings, sweep
from eval.replay.policy_points import policy_points, shown_policies
from eval.replay.replay import ReplayedTraffic, cards_of, request_of
from eval.tables.pool import TrainTestPool
from experts.cards import Prices
from routers.eligible import Constraints
from routers.encoders.vector_store import VectorStore
from routers.errors import RoutingError
from routers.features import Featurizer
from routers.fitting.fit import Encoded, encode_table, fit_router
from routers.fitting.recipe import Recipe
from routers.records import FeatureBatch, Floats, Preference, State
from routers.registry import encoder_class
from routers.router import Router

_TIMED_DECISIONS = 200
_TIMED_S = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """Both tables as one encoder sees them, to be sent to other processes.

    Attributes:
        encoder: Its name.
        state: What it learned.
        train: Features of the training side.
        test: Features of the test side.
        disturbed: Features of changed test prompts.
    """

    encoder: str
    state: State
    train: FeatureBatch
    test: FeatureBatch
    disturbed: Disturbed

    def encoded(self) -> Encoded:
        """The training side, with the encoder."""
        return Encoded(Featurizer(encoder_class(self.encoder).from_state(self.state)), self.train)


def encode_sides(
    encoder: str, pool: TrainTestPool, changed: Changed, seed: int, store: VectorStore | None = None
) -> Sides:
    """Encode everything once, for all routers that look through this encoder.

    Args:
        encoder: Its name.
        pool: Both tables.
        changed: Test prompts and what became of them.
        seed: Source of the encoder's randomness.
        store: Where the vectors of a slow encoder are kept.

    Raises:
        RoutingError: The encoder lacks an extra.
    """
    encoded = encode_table(encoder, pool.train, seed, store)
    featurizer = encoded.featurizer
    with threadpool_limits(limits=1):
        test = featurizer.transform(pool.test.prompts)
        disturbed = disturb(changed, featurizer.transform)
    return Sides(encoder, featurizer.encoder.state(), encoded.features, test, disturbed)


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """What all routers of a comparison are trained and judged with.

    Attributes:
        pool: Both tables, the training side sorted as `by_query_id` does, and the prices.
        best: Column of the best single expert.
        cost_A: Mean cost of each expert in training; NaN unknown.
        cost_weights: The settings to try.
        seed: Source of all randomness.
        sides: Encoder to the tables as it sees them.
    """

    pool: TrainTestPool
    best: int
    cost_A: Floats
    cost_weights: tuple[float, ...]
    seed: int
    sides: Mapping[str, Sides]


@dataclass(frozen=True, slots=True, eq=False)
class TrainedRouter:
    """A router that was trained and replayed.

    Attributes:
        name: What it is made of.
        fit_s: Seconds to train it, its encoder not counted.
        decide_us_p50: Median microseconds of one decision, from the request to the expert.
        settings: The cost weight to run it at, then one for each loss in `GIVE_UP`, all chosen on
            the training side.
        sweep: What it does on the test side.
        robustness: Of its decisions at the cost weight to run it at.
        seconds: Stage to the seconds it took.
        policies: What a policy that finds its own setting promises, to what it led to on the
            test side.
    """

    name: str
    fit_s: float
    decide_us_p50: float
    settings: tuple[Setting, ...]
    sweep: Sweep
    robustness: Robustness
    seconds: Mapping[str, float]
    policies: Mapping[str, ReplayedTraffic]


@dataclass(frozen=True, slots=True)
class Failed:
    """A router that could not be trained, and the reason in one sentence."""

    name: str
    reason: str


def train_router(bench: Bench, name: str) -> TrainedRouter | Failed:
    """Train a router on the whole training side, choose its settings, replay it on the test.

    One thread does it all, so that other processes can do the same beside it, and so that the
    figures do not depend on how many do.

    Args:
        bench: What with.
        name: What it is made of, as `Recipe.read` understands it; its encoder is on the bench.
    """
    with threadpool_limits(limits=1):
        try:
            return _train(bench, name)
        except (RoutingError, np.linalg.LinAlgError) as error:
            return Failed(name, str(error))


def _train(bench: Bench, name: str) -> TrainedRouter:
    pool, sides = bench.pool, bench.sides[Recipe.read(name).encoder]
    clock = Stopwatch()
    encoded = sides.encoded()
    clock.lap("load")
    router = fit_router(name, name, pool.train, seed=bench.seed, encoded=encoded)
    clock.lap("fit")
    estimates = router.estimator.predict(sides.test)
    found = sweep(router, pool.test, pool.prices, bench.cost_weights, estimates)
    clock.lap("replay")
    shown = shown_policies(pool.train, bench.best)
    points = policy_points(router, shown, pool.test, estimates, pool.prices)
    policies = {each.name: each.traffic for each in points}
    clock.lap("policies")
    fit = Fit(name, router, pool.train, encoded)
    settings = choose_settings(fit, pool.prices, bench.cost_weights, bench.best, bench.seed)
    clock.lap("settings")
    held = _robustness(router, bench, sides.disturbed, settings[0])
    clock.lap("robustness")
    decide_us = decision_us_p50(router, pool.test.prompts[:_TIMED_DECISIONS], pool.prices)
    clock.lap("timing")
    fit_s, seconds = clock.seconds["fit"], clock.seconds
    return TrainedRouter(name, fit_s, decide_us, settings, found, held, seconds, policies)


def _robustness(router: Router, bench: Bench, disturbed: Disturbed, setting: Setting) -> Robustness:
    prices, weight = bench.pool.prices, bench.cost_weights[setting.index]
    cost_A = np.nan_to_num(bench.cost_A, nan=-1.0)

    def decide(features: FeatureBatch) -> Columns:
        estimates = router.estimator.predict(features)
        return make_batch(router, features.prompt_tokens_N, estimates, prices).greedy(weight)

    wanted = np.lexsort((np.arange(len(cost_A)), -cost_A)).tolist()
    return robustness(decide, disturbed, bench.pool.test.experts, wanted)


class Stopwatch:
    """Seconds per stage of something."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, stage: str) -> None:
        """`stage` ends now; the next one begins."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since
        self._since = now


def decision_us_p50(
    router: Router, prompts: Sequence[str], prices: Mapping[str, Prices | None]
) -> float:
    """Median microseconds that `Router.decide` takes for one prompt, in one thread as it serves."""
    cards = cards_of(prices)
    requests = [request_of(prompt) for prompt in prompts]
    times: list[float] = []
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
            if sum(times) > _TIMED_S and len(times) > 1:
                break
    return float(np.median(times[1:])) * 1e6
