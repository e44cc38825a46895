"""What is particular to the static encoder; the contract suite has the rest."""

from __future__ import annotations

import subprocess
import sys
import threading
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from routers.encoders import packaged, static
from routers.encoders.form import FORM_FEATURES
from routers.encoders.packaged import PackagedFiles
from routers.encoders.static import StaticEncoder
from routers.errors import ArtifactError, RoutingError
from routers.features import Featurizer
from routers.records import Vectors
from routers.router import Router, untrained_router
from routers.storage.artifacts import load_router, save_router

FORM = len(FORM_FEATURES)


def words_of(encoder: StaticEncoder, *texts: str) -> Vectors:
    """The part of the vectors that words make, of unit length."""
    words_ND = encoder.encode(texts)[:, :-FORM]
    unit_ND: Vectors = words_ND / np.linalg.norm(words_ND, axis=1, keepdims=True)
    return unit_ND


def one_by_one(word: str) -> Vectors:
    """The sum of a word's tokens, by a tokenizer of its own that is asked for this word only."""
    tokenizer = Tokenizer.from_file(str(static.FILES.path(static._TOKENS)))
    tokenizer.encode_special_tokens = True
    table_TD = static._words(64)._table_TD
    ids = tokenizer.encode(word, add_special_tokens=False).ids
    return np.asarray(table_TD[ids].sum(axis=0))


def test_texts_without_a_word_in_common_are_near_when_they_mean_the_same() -> None:
    cat, kitten, tax = words_of(
        StaticEncoder(),
        "my cat is asleep on the sofa",
        "a kitten sleeps upon its couch",
        "quarterly corporate tax filing rules",
    )
    assert cat @ kitten > cat @ tax + 0.2


def test_few_dimensions_say_nearly_what_all_of_them_say() -> None:
    texts = [f"{a} {b}" for a in ("law", "poem", "gene", "goal") for b in ("court", "cell", "team")]
    few_ND, all_ND = (words_of(StaticEncoder(count), *texts) for count in (64, 256))
    few, every = (each @ each.T for each in (few_ND, all_ND))
    assert np.corrcoef(few.ravel(), every.ravel())[0, 1] > 0.9


def test_there_are_no_dimensions_beyond_the_table() -> None:
    with pytest.raises(RoutingError, match="256"):
        StaticEncoder(257)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=6))
def test_words_read_together_are_read_as_each_alone(words: list[str]) -> None:
    """Whatever is in them: the tokenizer's own marks, spaces of all kinds, half a character."""
    words = [w for text in words for w in text.replace("\u2581", "_").split() if w.isascii()]
    expected = sum((one_by_one(word) for word in words), np.zeros(64))
    np.testing.assert_allclose(
        StaticEncoder()._words.sums([" ".join(words)])[0], expected, atol=1e-3
    )


@pytest.mark.parametrize(
    "text", ["a </s> b <s>x", "\u2581 \u2581\u2581 x", "\ud800 x\udfff", "x\x00y z", "1<unk>2"]
)
def test_marks_of_the_tokenizer_in_a_text_are_text(text: str) -> None:
    encoder = StaticEncoder()
    backwards = " ".join(reversed(text.split()))
    np.testing.assert_allclose(
        encoder._words.sums([text]), encoder._words.sums([backwards]), atol=1e-4
    )
    assert np.isfinite(encoder.encode([text])).all()


def test_chinese_is_read_by_the_character() -> None:
    court, verdict, cell = words_of(StaticEncoder(), "法院判决", "法院上诉", "细胞蛋白")
    assert court @ verdict > court @ cell + 0.1
    memory = StaticEncoder()._words._memory.place
    assert "法" in memory
    assert "法院判决" not in memory


def test_what_is_remembered_stays_small_whatever_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static, "_MOST_WORDS", 50)
    fresh = static._words.__wrapped__(64)
    monkeypatch.undo()
    texts = [f"word{n} and{n} {'long' * 40}{n} the end" for n in range(60)]
    found_ND = np.concatenate([fresh.sums([text]) for text in texts])
    np.testing.assert_allclose(found_ND, static._words(64).sums(texts), atol=1e-4)
    assert len(fresh._memory.place) <= 50
    assert max(map(len, fresh._memory.place)) <= 32


def test_threads_that_read_at_once_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static, "_MOST_WORDS", 200)
    fresh = static._words.__wrapped__(64)
    monkeypatch.undo()
    texts = [f"one{n % 37} two{n % 41} three{n % 43}" for n in range(400)]
    expected_ND = static._words(64).sums(texts)
    wrong: list[bool] = []

    def read(order: list[int]) -> None:
        found_ND = np.concatenate([fresh.sums([texts[n]]) for n in order])
        wrong.extend(np.abs(found_ND - expected_ND[order]).max(axis=1) > 1e-4)

    rng = np.random.default_rng(0)
    threads = [
        threading.Thread(target=read, args=(rng.permutation(400).tolist(),)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 1600
    assert not any(wrong)


def router() -> Router:
    fitted = StaticEncoder().fit(["some text", "and more of it"], np.random.default_rng(0))
    plain = untrained_router("r")
    return Router("r", "v", Featurizer(fitted), plain.estimator, plain.policy)


def test_an_artifact_names_the_table_and_does_not_hold_it(tmp_path: Path) -> None:
    save_router(router(), tmp_path / "r")
    assert sum(file.stat().st_size for file in (tmp_path / "r").iterdir()) < 10_000
    again = load_router(tmp_path / "r")
    texts = ["what is a tort?", ""]
    expected = router().featurizer.encoder.encode(texts)
    np.testing.assert_array_equal(again.featurizer.encoder.encode(texts), expected)


def test_an_artifact_of_another_table_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PackagedFiles, "sha256", lambda self: "0" * 64)
    save_router(router(), tmp_path / "r")
    monkeypatch.undo()
    with pytest.raises(ArtifactError, match=r"another table of static vectors.*train it again"):
        load_router(tmp_path / "r")


def test_who_lacks_the_package_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(packaged, "distribution", missing)
    with pytest.raises(RoutingError, match=r"pip install 'pointsman\[static\]'"):
        static._words.__wrapped__(64)


def test_only_the_files_of_the_package_are_used_and_none_of_its_code() -> None:
    script = (
        "import sys; from routers.encoders.static import StaticEncoder;"
        "StaticEncoder().encode(['x']);"
        "print([m for m in ('wordllama', 'requests', 'huggingface_hub', 'torch')"
        " if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True
    )
    assert run.stdout.strip() == "[]"
