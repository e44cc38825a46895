"""Words put before a request decide little where parts of the text have a vote."""

from __future__ import annotations

import numpy as np
import pytest

from routers.errors import RoutingError
from routers.estimators.robust import RobustEstimator
from routers.features import Featurizer
from routers.fitting.fit import fit_router
from routers.records import FeatureBatch, OutcomeTable
from routers.registry import make_encoder, make_estimator
from routers.router import Router

WORDS = {
    "law": ["court", "judge", "statute", "appeal", "contract", "tort", "verdict", "plea"],
    "gene": ["cell", "membrane", "protein", "enzyme", "gene", "mitosis", "neuron", "virus"],
}
COMMON = ["what", "which", "does", "the", "following", "explain", "why", "most", "likely", "cause"]
EXPERTS = ("geneticist", "lawyer")
TRIES = 25


def prompts_of(tasks: tuple[str, ...], rng: np.random.Generator) -> tuple[str, ...]:
    return tuple(
        " ".join([*rng.choice(COMMON, 12), *rng.choice(WORDS[task], 4), *rng.choice(COMMON, 10)])
        for task in tasks
    )


def a_world(rows: int, seed: int) -> OutcomeTable:
    rng = np.random.default_rng(seed)
    tasks = tuple(("law", "gene")[row % 2] for row in range(rows))
    chance_NA = np.array([(0.3, 0.8) if task == "law" else (0.8, 0.3) for task in tasks])
    score_NA = (rng.random((rows, 2)) < chance_NA).astype(np.float64)
    ids = tuple(f"q{row:03d}" for row in range(rows))
    unknown_NA = np.full_like(score_NA, np.nan)
    return OutcomeTable(
        ids, prompts_of(tasks, rng), tasks, ids, EXPERTS, score_NA,
        unknown_NA, unknown_NA, unknown_NA, unknown_NA, np.ones_like(score_NA),
    )  # fmt: skip


def to_target(router: Router, texts: list[str]) -> float:
    """Share of the texts that go to the lawyer."""
    return float((router.estimate(texts).quality_NA.argmax(axis=1) == 1).mean())


def best_gadget(router: Router, texts: list[str]) -> float:
    """The largest share that a prefix of twelve words sends to the lawyer, of 25 at random."""
    rng = np.random.default_rng(9)
    known = [*WORDS["law"], *WORDS["law"], *WORDS["gene"], *COMMON]
    gadgets = [" ".join(rng.choice(known, 12)) for _ in range(TRIES)]
    return max(to_target(router, [f"{gadget} {text}" for text in texts]) for gadget in gadgets)


@pytest.mark.parametrize("estimator", ["ridge", "knn"])
def test_a_gadget_wins_at_most_half_of_what_it_wins_undefended(estimator: str) -> None:
    table = a_world(400, seed=1)
    texts = list(a_world(50, seed=2).prompts)
    free = fit_router("r", estimator, table, seed=0)
    defended = fit_router("r", f"robust:{estimator}", table, seed=0)
    rise_free, rise_defended = (
        best_gadget(router, texts) - to_target(router, texts) for router in (free, defended)
    )
    assert rise_free > 0.1
    assert rise_defended <= rise_free / 2


def test_without_an_attack_it_decides_nearly_as_well() -> None:
    table, fresh = a_world(400, seed=1), a_world(200, seed=2)
    right_N = np.array([task == "law" for task in fresh.tasks]).astype(int)
    for estimator in ("knn", "robust:knn"):
        found = fit_router("r", estimator, table, seed=0).estimate(fresh.prompts)
        assert (found.quality_NA.argmax(axis=1) == right_N).mean() > 0.95


def test_tokens_and_seconds_are_those_of_the_whole_text() -> None:
    table = a_world(100, seed=1)
    free, defended = (fit_router("r", n, table, seed=0) for n in ("ridge", "robust:ridge"))
    texts = table.prompts[:5]
    np.testing.assert_array_equal(
        defended.estimate(texts).output_tokens_NA, free.estimate(texts).output_tokens_NA
    )


@pytest.mark.parametrize("text", ["", "a", "Hi there", "x" * 5000])
def test_any_length_of_text_is_read(text: str) -> None:
    router = fit_router("r", "robust:ridge", a_world(60, seed=1), seed=0)
    assert np.isfinite(router.estimate([text]).quality_NA).all()


def test_features_that_cannot_be_made_again_are_refused() -> None:
    table = a_world(60, seed=1)
    features = Featurizer(make_encoder("hashing")).transform(table.prompts)
    rng = np.random.default_rng(0)
    fitted = RobustEstimator(make_estimator("prior")).fit(features, table, rng)
    bare = FeatureBatch(features.texts, features.vectors_ND, features.prompt_tokens_N)
    with pytest.raises(RoutingError, match="needs features from a Featurizer"):
        fitted.predict(bare)
