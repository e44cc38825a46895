"""Graph networks over tasks, queries and experts (B5), and over entities and agents (A5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from routers.base import Estimator
from routers.errors import MissingExtraError
from routers.estimators.entities import EntityGraphEstimator, entities
from routers.estimators.graph import GraphEstimator
from routers.estimators.graph_model import query_head
from routers.estimators.observed import Observed
from routers.records import FeatureBatch, Floats, OutcomeTable
from routers.training.batches import Examples, tensor
from routers.training.graph import (
    Anchored,
    Anchoring,
    Context,
    Nodes,
    attach,
    settled_nodes,
    start_weights,
)
from routers.training.losses import LOSSES
from routers.training.trainer import Schedule, train

EXPERTS = ("ann", "ben", "cleo")
KINDS = {"graph": GraphEstimator, "entities": EntityGraphEstimator}


def table_of(texts: list[str], score_NA: Floats, groups: tuple[str, ...] = ()) -> OutcomeTable:
    ids = tuple(f"q{i:04d}" for i in range(len(texts)))
    nothing_NA = np.full(score_NA.shape, np.nan)
    return OutcomeTable(
        ids,
        tuple(texts),
        (None,) * len(ids),
        groups or ids,
        EXPERTS[: score_NA.shape[1]],
        score_NA,
        nothing_NA,
        np.full(score_NA.shape, 50.0),
        nothing_NA,
        nothing_NA,
        np.ones(score_NA.shape),
    )


def features_of(vectors_ND: Floats, texts: list[str] | None = None) -> FeatureBatch:
    count = len(vectors_ND)
    return FeatureBatch(
        tuple(texts or ["a question"] * count), vectors_ND.astype(np.float32), np.ones(count)
    )


def unit_vectors(count: int, rng: np.random.Generator, width: int = 8) -> Floats:
    vectors_ND: Floats = rng.normal(size=(count, width))
    vectors_ND /= np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return vectors_ND


def fitted(unfitted: Estimator, features: FeatureBatch, table: OutcomeTable) -> Estimator:
    return unfitted.fit(features, table, np.random.default_rng(0))


def a_context(score_NA: Floats, groups_N: np.ndarray[Any, Any]) -> Context:
    rng = np.random.default_rng(0)
    count = len(score_NA)
    return Context(
        Anchored(
            unit_vectors(count, rng).astype(np.float32),
            some_anchoring(count),
            unit_vectors(4, rng).astype(np.float32),
        ),
        Observed(score_NA, np.ones_like(score_NA), score_NA.mean(axis=0)),
        np.zeros_like(score_NA),
        groups_N,
        most_rows=count,
        order_N=rng.permutation(count),
    )


def some_anchoring(count: int) -> Anchoring:
    ids_NK = np.arange(count)[:, None] * np.array([1, 3]) % 4
    return Anchoring(ids_NK, np.full((count, 2), 0.5, dtype=np.float32))


def awake_weights() -> Mapping[str, Any]:
    """Weights of a network that uses everything it is told."""
    rng = np.random.default_rng(1)
    return {
        name: tensor(rng.normal(size=array.shape).astype(np.float32) / 2)
        for name, array in start_weights(8, 6, rng).items()
    }


def test_no_edge_that_is_predicted_nor_one_of_its_group_is_ever_in_a_message() -> None:
    rng = np.random.default_rng(2)
    score_NA = rng.random((30, 3)).round()
    groups_N = np.arange(30) // 2
    batch = np.array([4, 9, 20])
    twins = np.isin(groups_N, groups_N[batch])
    inputs = {
        "vectors": tensor(unit_vectors(3, rng)),
        "groups": tensor(groups_N[batch]),
        **{name: tensor(array[batch]) for name, array in some_anchoring(30).inputs().items()},
    }

    def logits(changed_NA: Floats) -> Any:
        return query_head(a_context(changed_NA, groups_N))(awake_weights(), inputs).numpy()

    before = logits(score_NA)
    np.testing.assert_array_equal(logits(np.where(twins[:, None], 1 - score_NA, score_NA)), before)
    other = score_NA.copy()
    other[0] = 1 - other[0]
    assert not twins[0]
    assert (logits(other) != before).any()


def test_numpy_attaches_a_query_as_torch_does() -> None:
    rng = np.random.default_rng(3)
    weights = awake_weights()
    arrays = {name: values.numpy() for name, values in weights.items()}
    context = a_context(rng.random((20, 3)).round(), np.arange(20))
    nodes = settled_nodes(arrays, context, np.arange(20))
    inputs = {"vectors": unit_vectors(5, rng).astype(np.float32), **some_anchoring(5).inputs()}
    by_numpy = attach(arrays, Nodes.from_arrays(nodes.arrays()), inputs)
    by_torch = attach(weights, nodes, {name: tensor(array) for name, array in inputs.items()})
    assert isinstance(by_numpy, np.ndarray)
    assert by_numpy.std(axis=0).min() > 0.01
    np.testing.assert_allclose(by_numpy, by_torch.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_where_all_requests_look_alike_each_expert_has_its_mean(name: str) -> None:
    rng = np.random.default_rng(4)
    score_NA = (rng.random((400, 3)) < [0.2, 0.5, 0.8]).astype(np.float64)
    features = features_of(np.tile(unit_vectors(1, rng), (400, 1)))
    table = table_of(["a question"] * 400, score_NA)
    quality_NA = (
        fitted(KINDS[name](epochs=8, hidden=8), features, table).predict(features).quality_NA
    )
    np.testing.assert_allclose(quality_NA, np.tile(score_NA.mean(axis=0), (400, 1)), atol=0.04)


@pytest.mark.parametrize("name", KINDS)
def test_experts_under_other_names_are_told_apart_by_what_they_did(name: str) -> None:
    rng = np.random.default_rng(5)
    vectors_ND = unit_vectors(120, rng)
    score_NA = (rng.random((120, 3)) < 1 / (1 + np.exp(-4 * vectors_ND[:, :3]))).astype(float)
    features, turned = features_of(vectors_ND), [2, 0, 1]
    unfitted = KINDS[name](epochs=4, hidden=8)
    one_NA, other_NA = (
        fitted(unfitted, features, table_of(list(features.texts), each_NA)).predict(features)
        for each_NA in (score_NA, score_NA[:, turned])
    )
    assert one_NA.quality_NA.std(axis=0).min() > 0.01
    np.testing.assert_array_equal(other_NA.quality_NA, one_NA.quality_NA[:, turned])


@pytest.mark.parametrize("loss", ["bce", "soft"])
def test_fifty_rows_can_be_learned_by_heart(loss: str) -> None:
    rng = np.random.default_rng(6)
    score_NA = np.eye(3)[rng.integers(3, size=50)]
    context = a_context(score_NA, np.arange(50))
    inputs = {"vectors": context.vectors_ND.numpy(), "groups": np.arange(50)}
    # One single group: nothing is held out that would stop it in time.
    examples = Examples(
        {**inputs, **some_anchoring(50).inputs()}, score_NA, np.ones_like(score_NA), ("g",) * 50
    )
    schedule = Schedule(blind_epochs=200, learning_rate=1e-2, weight_decay=0.0)
    learned = train(
        "a test",
        query_head(context),
        start_weights(8, 32, rng),
        examples,
        LOSSES[loss],
        rng=rng,
        schedule=schedule,
    )
    nodes = settled_nodes(learned.weights, context, np.arange(50))
    logits_NA = attach(learned.weights, Nodes.from_arrays(nodes.arrays()), examples.inputs)
    assert (logits_NA.argmax(axis=1) == score_NA.argmax(axis=1)).mean() > 0.95


def test_a_task_tells_who_is_good_at_it() -> None:
    rng = np.random.default_rng(7)
    centres = unit_vectors(3, rng)
    task_N = rng.integers(3, size=600)
    vectors_ND = centres[task_N] + 0.2 * unit_vectors(600, rng)
    vectors_ND /= np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    right_NA = np.where(task_N[:, None] == np.arange(3), 0.9, 0.4)
    score_NA = (rng.random((600, 3)) < right_NA).astype(np.float64)
    features, table = features_of(vectors_ND), table_of(["?"] * 600, score_NA)
    known = np.arange(450)
    learned = fitted(GraphEstimator(epochs=25), features.take(known), table.take(known))
    unseen = np.arange(450, 600)
    quality_NA = learned.predict(features.take(unseen)).quality_NA
    assert (quality_NA.argmax(axis=1) == task_N[unseen]).mean() > 0.95
    assert np.abs(quality_NA - right_NA[unseen]).mean() < 0.1


def test_an_entity_tells_who_knows_it_though_all_vectors_are_alike() -> None:
    rng = np.random.default_rng(8)
    names = ["Alan Turing", "Marie Curie", "Bruno Schulz", "Clara Schumann", "Ada Lovelace"]
    about_N = rng.integers(5, size=600)
    texts = [f"when was {names[about]} born" for about in about_N]
    right_NA = np.where(about_N[:, None] % 3 == np.arange(3), 0.95, 0.2)
    score_NA = (rng.random((600, 3)) < right_NA).astype(np.float64)
    features = features_of(np.tile(unit_vectors(1, rng), (600, 1)), texts)
    # Experts are known by what their answers were like.
    table = replace(
        table_of(texts, score_NA),
        output_tokens_NA=rng.lognormal(np.log([10.0, 60.0, 360.0]), 0.1, (600, 3)),
    )
    known, unseen = np.arange(450), np.arange(450, 600)
    learned = fitted(EntityGraphEstimator(epochs=30), features.take(known), table.take(known))
    quality_NA = learned.predict(features.take(unseen)).quality_NA
    assert (quality_NA.argmax(axis=1) == about_N[unseen] % 3).mean() > 0.8


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Did Marie Curie meet the King of Spain?", ["did marie curie", "king of spain"]),
        ("It cost $5, or 12% more than in 1999.", ["it", "#money", "#share", "#year"]),
        ("3.5 and 1,250 and 7", ["#decimal", "#4 digits", "#1 digits"]),
        ("", []),
    ],
    ids=["names", "kinds", "digits", "empty"],
)
def test_entities_are_names_and_kinds_of_numbers(text: str, found: list[str]) -> None:
    assert entities(text) == found


@pytest.mark.parametrize("name", KINDS)
def test_only_training_takes_torch(name: str, forget_torch: Callable[[], None]) -> None:
    rng = np.random.default_rng(9)
    features = features_of(unit_vectors(60, rng))
    table = table_of(["?"] * 60, rng.random((60, 3)).round())
    unfitted = KINDS[name](epochs=1, hidden=4)
    learned = fitted(unfitted, features, table)
    forget_torch()
    again = type(learned).from_state(learned.state())
    np.testing.assert_array_equal(
        again.predict(features).quality_NA, learned.predict(features).quality_NA
    )
    with pytest.raises(MissingExtraError, match=f"'{name}' needs the extra"):
        fitted(unfitted, features, replace(table))


def test_the_number_of_threads_is_left_alone() -> None:
    threads = torch.get_num_threads()
    test_numpy_attaches_a_query_as_torch_does()
    assert torch.get_num_threads() == threads
