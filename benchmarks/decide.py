"""What a routing decision costs, step by step, on one core.

`python benchmarks/decide.py` trains routers on generated outcomes and times decisions on prompts
that none of them has seen, every prompt a new one, so that no cache of whole texts would help.
Times are CPU time of the deciding thread. What it costs to put a decision on record follows, see
`benchmarks/book.py`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import orjson
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from benchmarks import book
from experts.cards import ExpertCard, Prices
from experts.messages import ChatRequest, Message
from gateway.cli.vectors import vector_store
from routers.candidates import Expected, row_of, weigh
from routers.eligible import Cards, Constraints, eligible
from routers.explicit import explicit_decision
from routers.explore import draw, with_exploration
from routers.features import estimate_prompt_tokens
from routers.fitting.fit import fit_router
from routers.policies.greedy import PRESETS, good_enough
from routers.records import Floats, OutcomeTable
from routers.registry import DEFAULT_ENCODER, DEFAULT_ESTIMATOR
from routers.router import Router, untrained_router

_WORDS = 40_000
_TOPICS = 12
_EPSILON = 0.05
_WARM_UP = 50
_TOGETHER = (8, 32)
_OUTPUT_TOKENS = 120.0
_TOKENS_PER_SECOND = 60.0

T = TypeVar("T")
Steps = dict[str, list[float]]


def main() -> None:
    """Parse the command line, measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=10_000, help="queries to learn from")
    parser.add_argument("--experts", type=int, default=5)
    parser.add_argument("--calls", type=int, default=1000, help="decisions to time")
    parser.add_argument("--characters", type=int, default=1000, help="length of a timed prompt")
    parser.add_argument("--encoders", default="hashing,static,tfidf,minilm")
    parser.add_argument("--estimators", default="knn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--pools", default="", help="numbers of experts to compare, 5,10,20,40: the default router"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    if args.pools:
        show_pools(args)
        return
    rng = np.random.default_rng(args.seed)
    texts = Texts(rng)
    table = outcomes(texts, args.rows, args.experts, rng)
    cards = Cards(pool(args.experts))
    prompts = [texts.one(args.characters)[0] for _ in range(_WARM_UP + args.calls)]
    requests = [ChatRequest((Message("user", prompt),)) for prompt in prompts]
    found: dict[str, dict[str, float]] = {}
    # A gateway serves many requests at a time: one decision gets one core.
    with threadpool_limits(limits=1):
        for encoder in args.encoders.split(","):
            for estimator in args.estimators.split(","):
                began = time.perf_counter()
                router = fit_router(
                    "r",
                    estimator,
                    table,
                    seed=args.seed,
                    encoder=encoder,
                    epsilon=_EPSILON,
                    store=vector_store(None, lambda what, done: None),
                )
                fit_s = time.perf_counter() - began
                steps = measure(router, cards, requests)
                found[f"{encoder} + {estimator}"] = medians_us(steps) | {"fit, s": fit_s}
        found["untrained"] = medians_us(whole(untrained_router("u"), cards, requests))
        found["named"] = medians_us(named(cards[0], requests))
    booked = book.costs(args.experts)
    if args.json:
        Console().print_json(orjson.dumps({"decide": found, "book": booked}).decode())
        return
    show(found, args)
    book.show(booked, args.experts, "none")


def show_pools(args: argparse.Namespace) -> None:
    """Print what a decision of the default router costs by the number of experts."""
    title = f"CPU µs per decision, {DEFAULT_ESTIMATOR}+{DEFAULT_ENCODER}, {args.rows} rows"
    table = Table("experts", "decide", "without embedding", "fit, s", title=title)
    rng = np.random.default_rng(args.seed)
    texts = Texts(rng)
    prompts = [texts.one(args.characters)[0] for _ in range(_WARM_UP + args.calls)]
    requests = [ChatRequest((Message("user", prompt),)) for prompt in prompts]
    with threadpool_limits(limits=1):
        for experts in map(int, args.pools.split(",")):
            learned = outcomes(texts, args.rows, experts, rng)
            began = time.perf_counter()
            router = fit_router("r", DEFAULT_ESTIMATOR, learned, seed=args.seed, epsilon=_EPSILON)
            fit_s = time.perf_counter() - began
            found = medians_us(measure(router, Cards(pool(experts)), requests))
            rest = found["decide"] - found["encode"]
            table.add_row(str(experts), f"{found['decide']:.0f}", f"{rest:.0f}", f"{fit_s:.1f}")
    Console().print(table)


class Texts:
    """Prompts of words whose frequency falls as 1 / rank, one part of them owned by a topic."""

    def __init__(self, rng: np.random.Generator) -> None:
        letters = np.array(list("eeeetttaaaooiinnsshhrrdlucmwfgypbvkxjqz"))
        lengths = np.clip(rng.poisson(5, _WORDS), 1, 14)
        self._words = np.array(["".join(rng.choice(letters, length)) for length in lengths])
        chance = 1 / np.arange(3, _WORDS + 3)
        self._chance = np.cumsum(chance / chance.sum())
        self._rng = rng

    def one(self, characters: int) -> tuple[str, int]:
        """A prompt of about so many characters, and its topic."""
        topic = int(self._rng.integers(_TOPICS))
        count = max(characters // 6, 3)
        ranks = np.searchsorted(self._chance, self._rng.random(count))
        # A third of the words come from the topic: the same ranks, elsewhere in the vocabulary.
        special = self._rng.random(count) < 1 / 3
        places = np.where(special, (ranks * 7 + 1 + topic * 997) % _WORDS, ranks)
        words = self._words[places.clip(max=_WORDS - 1)].tolist()
        lines = [" ".join(words[start : start + 14]) for start in range(0, count, 14)]
        return (".\n".join(lines).capitalize() + "?")[:characters], topic


def outcomes(texts: Texts, rows: int, experts: int, rng: np.random.Generator) -> OutcomeTable:
    """Scores that depend on expert and topic, with answers of different length."""
    lengths = np.clip(rng.lognormal(6, 0.8, rows), 40, 8000).astype(int)
    drawn = [texts.one(int(length)) for length in lengths]
    topic_N = np.array([topic for _, topic in drawn])
    skill_TA = rng.uniform(0.3, 0.9, (_TOPICS, experts))
    score_NA = (rng.random((rows, experts)) < skill_TA[topic_N]).astype(np.float64)
    output_NA = rng.lognormal(np.log(_OUTPUT_TOKENS), 0.5, (rows, experts))
    unknown_NA = np.full((rows, experts), np.nan)
    ids = tuple(f"q{row:06d}" for row in range(rows))
    return OutcomeTable(
        query_ids=ids,
        prompts=tuple(text for text, _ in drawn),
        tasks=tuple(f"topic-{topic}" for topic in topic_N.tolist()),
        groups=ids,
        experts=tuple(card.expert_id for card in pool(experts)),
        score_NA=score_NA,
        prompt_tokens_NA=unknown_NA,
        output_tokens_NA=output_NA,
        cost_usd_NA=unknown_NA,
        latency_s_NA=output_NA / _TOKENS_PER_SECOND,
        propensity_NA=np.ones((rows, experts)),
    )


def pool(experts: int) -> list[ExpertCard]:
    """Cards of experts whose price doubles from one to the next."""
    return [
        ExpertCard(
            f"expert-{index:02d}",
            prices=Prices(0.1 * 2**index, 0.4 * 2**index),
            context_tokens=32_000,
            max_output_tokens=4096,
            tools=True,
        )
        for index in range(experts)
    ]


def measure(router: Router, cards: Sequence[ExpertCard], requests: Sequence[ChatRequest]) -> Steps:
    """Seconds of each step by itself, and of whole decisions."""
    steps: Steps = {}
    for request in requests:
        _timed_steps(router, cards, request, steps)
    return steps | whole(router, cards, requests) | together(router, cards, requests)


def _timed_steps(
    router: Router, cards: Sequence[ExpertCard], request: ChatRequest, steps: Steps
) -> None:
    preference = PRESETS["balanced"]

    def timed(step: str, call: Callable[[], T]) -> T:
        began = time.thread_time()
        result = call()
        steps.setdefault(step, []).append(time.thread_time() - began)
        return result

    tokens = timed("prompt tokens", lambda: estimate_prompt_tokens(request))
    able, _ = timed("eligible", lambda: eligible(request, tokens, cards, {}, Constraints()))
    features = timed("encode", lambda: router.featurizer.transform([request.text]))
    estimates = timed("estimate", lambda: router.estimator.predict(features))
    candidates, _ = timed(
        "weigh",
        lambda: weigh(request, tokens, able, cards, row_of(estimates, 0), router.typical, {}),
    )

    def chosen() -> int:
        probabilities_A: Floats
        probabilities_A, _ = router.policy.distribution(candidates, preference)
        among_A = good_enough(candidates, preference) if preference.min_quality else None
        return draw(with_exploration(probabilities_A, router.epsilon, among_A), 0.4)

    timed("policy, draw", chosen)


def decide(
    router: Router,
    cards: Sequence[ExpertCard],
    request: ChatRequest,
    expected: Expected | None = None,
) -> None:
    """One decision as a gateway asks for it."""
    router.decide(
        request,
        cards,
        preference=PRESETS["balanced"],
        policy_name="balanced",
        constraints=Constraints(),
        unhealthy={},
        uniform=0.4,
        expected=expected,
    )


def whole(router: Router, cards: Sequence[ExpertCard], requests: Sequence[ChatRequest]) -> Steps:
    """Seconds of whole decisions."""
    seconds = []
    for request in requests:
        began = time.thread_time()
        decide(router, cards, request)
        seconds.append(time.thread_time() - began)
    return {"decide": seconds}


def named(card: ExpertCard, requests: Sequence[ChatRequest]) -> Steps:
    """Seconds of decisions on an expert that the request names."""
    seconds = []
    for request in requests:
        began = time.thread_time()
        explicit_decision(request, card, Constraints())
        seconds.append(time.thread_time() - began)
    return {"decide": seconds}


def together(router: Router, cards: Sequence[ExpertCard], requests: Sequence[ChatRequest]) -> Steps:
    """Seconds per decision where several requests wait at the same time."""
    steps: Steps = {}
    for count in _TOGETHER:
        for start in range(0, len(requests) - count + 1, count):
            few = requests[start : start + count]
            began = time.thread_time()
            found = router.expectations([request.text for request in few])
            for request, expected in zip(few, found, strict=True):
                decide(router, cards, request, expected)
            seconds = (time.thread_time() - began) / count
            steps.setdefault(f"decide, {count} at a time", []).extend([seconds] * count)
    return steps


def medians_us(steps: Steps) -> dict[str, float]:
    """Median microseconds by step, and the 99th percentile of the whole."""
    found = {step: float(np.median(seconds[_WARM_UP:])) * 1e6 for step, seconds in steps.items()}
    return found | {"decide p99": float(np.quantile(steps["decide"][_WARM_UP:], 0.99)) * 1e6}


def show(found: dict[str, dict[str, float]], args: argparse.Namespace) -> None:
    """Print a column per router."""
    title = (
        f"CPU µs per decision (median of {args.calls}): {args.rows} rows, {args.experts} experts, "
        f"prompts of {args.characters} characters"
    )
    table = Table("step", *found, title=title)
    for step in dict.fromkeys(step for steps in found.values() for step in steps):
        cells = [f"{steps[step]:.1f}" if step in steps else "" for steps in found.values()]
        table.add_row(step, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
