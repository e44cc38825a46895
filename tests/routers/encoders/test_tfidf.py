"""What is particular to the TF-IDF encoder and the form; the contract suite has the rest."""

from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from routers.encoders.form import FORM_FEATURES, forms
from routers.encoders.lexical import TfidfSvdEncoder

SUBJECTS = {
    "law": "court judge statute appeal contract tort",
    "biology": "cell membrane protein enzyme gene mitosis",
    "physics": "force energy momentum quantum field wave",
}


def corpus(rng: np.random.Generator, size: int = 90) -> list[str]:
    subjects = [list(SUBJECTS)[i % 3] for i in range(size)]
    return [" ".join(rng.choice(SUBJECTS[s].split(), 5)) + " the of and" for s in subjects]


@pytest.fixture(scope="module")
def encoder() -> TfidfSvdEncoder:
    rng = np.random.default_rng(0)
    return TfidfSvdEncoder(4).fit(corpus(rng), rng)


def test_texts_on_one_subject_are_nearer_than_texts_on_two(encoder: TfidfSvdEncoder) -> None:
    law, judge, cell = encoder.encode(["statute appeal", "judge court tort", "enzyme gene"])
    assert law @ judge > law @ cell + 0.3


def test_terms_weigh_as_in_sublinear_tf_idf() -> None:
    texts = ["wave wave energy", "wave force", "energy gene wave", "gene force force"]
    encoder = TfidfSvdEncoder().fit(texts, np.random.default_rng(0))
    reference = TfidfVectorizer(sublinear_tf=True).fit_transform(texts).toarray()
    # With every dimension kept, the reduction is a rotation: the angles are those of TF-IDF.
    words_ND = encoder.encode(texts)[:, : -len(FORM_FEATURES)]
    words_ND /= np.linalg.norm(words_ND, axis=1, keepdims=True)
    np.testing.assert_allclose(words_ND @ words_ND.T, reference @ reference.T, atol=1e-5)


def test_a_small_corpus_makes_fewer_dimensions() -> None:
    rng = np.random.default_rng(0)
    encoder = TfidfSvdEncoder(128).fit(["cell gene", "gene wave", "wave cell"], rng)
    assert encoder.encode(["cell"]).shape == (1, 3 + len(FORM_FEATURES))


@pytest.mark.parametrize("texts", [[], [""], ["?"], ["one text only"]])
def test_hardly_any_corpus_still_makes_an_encoder(texts: list[str]) -> None:
    encoder = TfidfSvdEncoder().fit(texts, np.random.default_rng(0))
    assert np.isfinite(encoder.encode(["", "some text", "字"])).all()


def test_chinese_is_read_by_the_character() -> None:
    texts = ["法院判决合同", "合同法院上诉", "细胞蛋白基因", "基因细胞分裂"] * 3
    encoder = TfidfSvdEncoder().fit(texts, np.random.default_rng(0))
    law, appeal, cell = encoder.encode(["法院合同", "上诉法院", "细胞基因"])
    assert law @ appeal > law @ cell + 0.3


def test_of_a_very_long_text_the_two_ends_count(encoder: TfidfSvdEncoder) -> None:
    ends = "court judge " * 700 + "{}" + " statute appeal" * 700
    plain, stuffed = encoder.encode([ends.format("gene " * 200), ends.format("gene " * 50_000)])
    np.testing.assert_allclose(plain[:3], stuffed[:3], atol=0.05)


def test_one_query_is_encoded_in_under_a_millisecond(encoder: TfidfSvdEncoder) -> None:
    text = " ".join(SUBJECTS.values()) * 5
    times = []
    for _ in range(50):
        started = time.perf_counter()
        encoder.encode([text])
        times.append(time.perf_counter() - started)
    assert min(times) < 1e-3


def test_the_form_counts_kinds_of_bytes_as_shares() -> None:
    (form,) = forms(["Ab1+\n字"])
    named = dict(zip(FORM_FEATURES, form, strict=True))
    length = 1 + 8
    assert named.pop("length") == pytest.approx(np.log(length))
    expected = {"digits": 1, "signs": 1, "capitals": 1, "lines": 1, "non_ascii": 3}
    assert named == {kind: pytest.approx(n / length) for kind, n in expected.items()}
