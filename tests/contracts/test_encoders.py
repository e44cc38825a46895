"""What every encoder owes its users."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest

from routers.base import Encoder
from routers.encoders.lexical import HashingEncoder, TfidfSvdEncoder
from routers.encoders.minilm import MiniLmEncoder
from routers.encoders.static import StaticEncoder

TEXTS = [f"{subject} question number {i}" for i in range(20) for subject in ("law", "gene", "wave")]
UNSEEN = ["law of the gene", "", "字", "NUMBER 7!", "zzz unheard of"]
ENCODERS: dict[str, Callable[[], Encoder]] = {
    "hashing": HashingEncoder,
    "minilm": MiniLmEncoder,
    "static": StaticEncoder,
    "tfidf": TfidfSvdEncoder,
}


@pytest.fixture(params=sorted(ENCODERS))
def unfitted(request: pytest.FixtureRequest) -> Encoder:
    return ENCODERS[request.param]()


@pytest.fixture
def encoder(unfitted: Encoder) -> Encoder:
    return unfitted.fit(TEXTS, np.random.default_rng(0))


def test_vectors_are_float32_of_unit_length_or_zero(encoder: Encoder) -> None:
    vectors_ND = encoder.encode(TEXTS + UNSEEN)
    assert vectors_ND.dtype == np.float32
    assert len(vectors_ND) == len(TEXTS + UNSEEN)
    lengths_N = np.linalg.norm(vectors_ND, axis=1)
    assert (np.isclose(lengths_N, 1, atol=1e-5) | (lengths_N == 0)).all()


def test_encoding_is_pure_and_row_by_row(encoder: Encoder) -> None:
    together = encoder.encode(UNSEEN)
    alone = np.concatenate([encoder.encode([text]) for text in UNSEEN])
    np.testing.assert_allclose(alone, together, atol=1e-6)
    np.testing.assert_array_equal(encoder.encode(UNSEEN), together)


def test_no_texts_make_no_rows_of_the_same_width(encoder: Encoder) -> None:
    assert encoder.encode([]).shape == (0, encoder.encode(["x"]).shape[1])


def test_the_same_seed_learns_the_same(unfitted: Encoder) -> None:
    one = unfitted.fit(TEXTS, np.random.default_rng(3))
    other = unfitted.fit(TEXTS, np.random.default_rng(3))
    np.testing.assert_array_equal(one.encode(UNSEEN), other.encode(UNSEEN))


def test_fitting_leaves_an_earlier_fit_alone(unfitted: Encoder) -> None:
    first = unfitted.fit(TEXTS, np.random.default_rng(0))
    before = first.encode(UNSEEN)
    first.fit(["something else entirely", "and more of it"], np.random.default_rng(1))
    np.testing.assert_array_equal(first.encode(UNSEEN), before)


def test_the_state_round_trip_changes_nothing(encoder: Encoder) -> None:
    again = type(encoder).from_state(encoder.state())
    np.testing.assert_array_equal(again.encode(UNSEEN), encoder.encode(UNSEEN))
    assert again.name == encoder.name


def test_it_can_be_sent_to_another_process(encoder: Encoder) -> None:
    """A deep copy is made the way that processes send things."""
    np.testing.assert_array_equal(copy.deepcopy(encoder).encode(TEXTS), encoder.encode(TEXTS))
