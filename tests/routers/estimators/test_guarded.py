"""The guard against requests unlike all that was learned from."""

from __future__ import annotations

import numpy as np
import pytest

from experts.cards import ExpertCard
from experts.messages import ChatRequest, Message
from routers.eligible import Constraints
from routers.estimators.guarded import GuardedEstimator, _alike_others
from routers.features import Featurizer
from routers.fitting.fit import fit_router
from routers.records import Decision, OutcomeTable, Preference
from routers.registry import make_encoder, make_estimator
from routers.router import Router

WORDS = {
    "law": ["court", "judge", "statute", "appeal", "contract", "tort", "verdict", "plea"],
    "gene": ["cell", "membrane", "protein", "enzyme", "gene", "mitosis", "neuron", "virus"],
}
# "general" is the best over all, and never the best at anything that is known.
EXPERTS = ("general", "geneticist", "lawyer")
CHANCES = {"law": (0.8, 0.2, 0.95), "gene": (0.8, 0.95, 0.2)}
FOREIGN = ["Какая", "столица", "этой", "страны", "сколько", "людей", "там", "живёт"]


def sentence(words: list[str], rng: np.random.Generator) -> str:
    return f"which {' '.join(rng.choice(words, 8))} follows"


def a_world(rows: int = 400) -> OutcomeTable:
    rng = np.random.default_rng(1)
    tasks = tuple(("law", "gene")[row % 2] for row in range(rows))
    prompts = tuple(sentence(WORDS[task], rng) for task in tasks)
    score_NA = (rng.random((rows, 3)) < np.array([CHANCES[task] for task in tasks])).astype(float)
    ids = tuple(f"q{row:03d}" for row in range(rows))
    unknown_NA = np.full_like(score_NA, np.nan)
    return OutcomeTable(
        ids, prompts, tasks, ids, EXPERTS, score_NA,
        unknown_NA, unknown_NA, unknown_NA, unknown_NA, np.ones_like(score_NA),
    )  # fmt: skip


@pytest.fixture(scope="module")
def router() -> Router:
    return fit_router("r", "guarded:knn", a_world(), seed=0)


def decided(router: Router, text: str) -> Decision:
    return router.decide(
        ChatRequest((Message("user", text),)),
        [ExpertCard(expert) for expert in EXPERTS],
        preference=Preference(),
        policy_name="best",
        constraints=Constraints(),
        unhealthy={},
        uniform=0.5,
    )


def test_another_language_goes_to_the_general_expert_and_says_so(router: Router) -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        decision = decided(router, sentence(FOREIGN, rng))
        assert decision.expert == "general"
        assert "unfamiliar" in decision.flags


def test_familiar_requests_are_decided_as_without_the_guard(router: Router) -> None:
    rng = np.random.default_rng(3)
    bare = fit_router("r", "knn", a_world(), seed=0)
    texts = [sentence(WORDS[("law", "gene")[n % 2]], rng) for n in range(200)]
    guarded, free = router.estimate(texts), bare.estimate(texts)
    familiar_N = np.ones(200, dtype=bool)
    if guarded.unfamiliar_N is not None:
        familiar_N = ~guarded.unfamiliar_N
    assert familiar_N.mean() > 0.95
    np.testing.assert_array_equal(guarded.quality_NA[familiar_N], free.quality_NA[familiar_N])
    decisions = [decided(router, text) for text in texts[:20]]
    assert {each.expert for each in decisions} >= {"geneticist", "lawyer"}
    assert sum("unfamiliar" in each.flags for each in decisions) < 3


def test_the_fallback_is_the_mean_of_all_with_a_wide_error(router: Router) -> None:
    table = a_world()
    found = router.estimate([" ".join(FOREIGN)])
    np.testing.assert_allclose(found.quality_NA[0], table.score_NA.mean(axis=0))
    # The specialists are .375 from their mean on every task.
    assert (found.stderr_NA[0, 1:] > 0.25).all()
    assert found.stderr_NA[0, 0] < 0.15


def test_what_is_unfamiliar_and_alike_is_suggested_as_a_category() -> None:
    rng = np.random.default_rng(4)
    table = a_world()
    later = [sentence(FOREIGN, rng) for _ in range(40)]
    featurizer = Featurizer(make_encoder("tfidf")).fit(table.prompts, rng)
    fitted = GuardedEstimator(make_estimator("prior")).fit(
        featurizer.transform(table.prompts), table, rng
    )
    served = [*table.prompts[:60], *later, *(f"{n} {n * n}" for n in range(5))]
    (group,) = fitted.suggested_categories(featurizer.transform(served))
    assert len(set(range(60, 100)) & set(group.tolist())) >= 35
    assert set(group.tolist()) <= set(range(60, len(served)))
    assert fitted.suggested_categories(featurizer.transform(table.prompts)) == []


def test_a_share_of_nothing_never_falls_back() -> None:
    table = a_world()
    featurizer = Featurizer(make_encoder("hashing"))
    features = featurizer.transform(table.prompts)
    rng = np.random.default_rng(0)
    fitted = GuardedEstimator(make_estimator("prior"), share=0.0).fit(features, table, rng)
    assert not fitted.unfamiliar(featurizer.transform([" ".join(FOREIGN)])).any()
    half = GuardedEstimator(make_estimator("prior"), share=0.5).fit(features, table, rng)
    unseen = featurizer.transform([sentence(WORDS["law"], rng) for _ in range(200)])
    assert 0.3 < half.unfamiliar(unseen).mean() < 0.7


def test_copies_of_a_query_do_not_make_it_familiar() -> None:
    vectors_ND = np.repeat(np.eye(3, dtype=np.float32), 12, axis=0)
    apart = _alike_others(vectors_ND, [str(row) for row in range(36)])
    together = _alike_others(vectors_ND, [str(row // 12) for row in range(36)])
    np.testing.assert_allclose(apart, 1.0)
    np.testing.assert_allclose(together, 0.0)
