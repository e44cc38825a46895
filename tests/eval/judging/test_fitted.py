"""A gate fitted from preferences finds planted weights, is free of length, and comes back whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.errors import ComparisonError, SourceError
from eval.judging.fitted import FittedGate, Pairs, tried
from eval.judging.pair_files import read_pairs
from routers.encoders.lexical import TfidfSvdEncoder
from routers.errors import ArtifactError
from routers.storage.state_files import save_state

OBJECTIVES = ("correct", "polite", "short")
WEIGHT_CK = np.array([[0.85, 0.1, 0.05], [0.05, 0.85, 0.1]])
WORDS = ("solve equation integral proof", "apologise customer letter complaint")


def preferred(count: int, seed: int, wordy: float = 0.0) -> tuple[Pairs, np.ndarray]:
    """Pairs in which people care about other things by the kind of prompt.

    Every objective is scored higher by `wordy` for each token.
    """
    rng = np.random.default_rng(seed)
    kind_N = rng.integers(0, 2, count)
    prompts = [
        f"{' '.join(rng.choice(WORDS[kind].split(), 3))} {rng.integers(10**6)}" for kind in kind_N
    ]
    merit_N2K = rng.uniform(0.2, 0.8, size=(count, 2, 3))
    length_N2 = rng.uniform(50, 250, size=(count, 2))
    utility_N2 = (merit_N2K * WEIGHT_CK[kind_N][:, None]).sum(axis=2)
    order_N2 = np.argsort(-utility_N2, axis=1)
    rows_N1 = np.arange(count)[:, None]
    seen_N2K = merit_N2K + wordy * (length_N2 - 150)[:, :, None]
    chosen_NK, rejected_NK = np.moveaxis(seen_N2K[rows_N1, order_N2], 1, 0)
    pairs = Pairs(prompts, OBJECTIVES, chosen_NK, rejected_NK, length_N2[rows_N1, order_N2])
    return pairs, kind_N


@pytest.fixture(scope="module")
def fitted() -> FittedGate:
    return FittedGate.fit(preferred(600, 1)[0], TfidfSvdEncoder(), seed=0)


def test_it_recovers_what_each_kind_of_prompt_cares_about(fitted: FittedGate) -> None:
    pairs, kind_N = preferred(400, 2)
    weight_NK = fitted.gate.weights(fitted.encoder.encode(pairs.prompts).astype(np.float64))
    found_CK = np.stack([weight_NK[kind_N == kind].mean(axis=0) for kind in range(2)])
    np.testing.assert_allclose(found_CK, WEIGHT_CK, atol=0.12)
    unknown_N = np.full(400, np.nan)
    chosen_N = fitted.score(pairs.prompts, pairs.chosen_NK, unknown_N)
    rejected_N = fitted.score(pairs.prompts, pairs.rejected_NK, unknown_N)
    assert (chosen_N > rejected_N).mean() > 0.9
    judged = fitted.judge(pairs.prompts[0], dict.fromkeys(OBJECTIVES, 0.5), fitted.length)
    assert judged.score == pytest.approx(0.5)
    assert judged.told.count("%") == 3


def test_what_it_says_of_itself_is_of_pairs_it_has_not_seen() -> None:
    report = tried(preferred(200, 3)[0], TfidfSvdEncoder(), seed=0)
    assert report.gate > 0.85
    assert report.gate > max(report.equal, report.best_single) + 0.05
    noise, _ = preferred(100, 4)
    coin_N = np.random.default_rng(0).random(100) < 0.5
    swapped = Pairs(
        noise.prompts, OBJECTIVES,
        np.where(coin_N[:, None], noise.chosen_NK, noise.rejected_NK),
        np.where(coin_N[:, None], noise.rejected_NK, noise.chosen_NK), noise.length_N2,
    )  # fmt: skip
    assert 0.3 < tried(swapped, TfidfSvdEncoder(), seed=0).gate < 0.7


def test_a_liking_of_length_is_taken_out() -> None:
    wordy, _ = preferred(600, 5, wordy=0.002)
    fitted = FittedGate.fit(wordy, TfidfSvdEncoder(), seed=0)
    np.testing.assert_allclose(fitted.length_weight_K, 0.002, atol=0.0006)
    prompt, scores = wordy.prompts[0], dict.fromkeys(OBJECTIVES, 0.5)
    long, short = (fitted.judge(prompt, scores, length).score for length in (250.0, 50.0))
    assert short - long == pytest.approx(200 * 0.002, abs=0.1)


def test_it_comes_back_from_disk_and_nothing_that_was_changed_does(
    fitted: FittedGate, tmp_path: Path
) -> None:
    pairs, _ = preferred(20, 6)
    path = tmp_path / "judges" / "house.safetensors"
    fitted.save(path)
    again = FittedGate.load(path)
    np.testing.assert_array_equal(
        again.score(pairs.prompts, pairs.chosen_NK, pairs.length_N2[:, 0]),
        fitted.score(pairs.prompts, pairs.chosen_NK, pairs.length_N2[:, 0]),
    )
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ArtifactError, match="is damaged"):
        FittedGate.load(path)
    params, arrays = fitted.state()
    save_state("gate of a judge", ({**params, "encoder_kind": "none"}, arrays), path)
    with pytest.raises(ArtifactError, match="no gate of this version"):
        FittedGate.load(path)
    with pytest.raises(ArtifactError, match="can't be read"):
        FittedGate.load(tmp_path / "nowhere")


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(ComparisonError, match="10 pairs by 3 objectives are too few"):
        FittedGate.fit(preferred(10, 0)[0], TfidfSvdEncoder(), seed=0)


GOOD = {"prompt": "a", "chosen": {"x": 1, "y": 0}, "rejected": {"x": 0, "y": 0.5}}


def test_pairs_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(GOOD) + "\n\n" + json.dumps({**GOOD, "chosen_tokens": 7}) + "\n")
    pairs = read_pairs(path)
    assert (len(pairs), pairs.objectives) == (2, ("x", "y"))
    np.testing.assert_array_equal(pairs.rejected_NK, [[0, 0.5]] * 2)
    np.testing.assert_array_equal(pairs.length_N2, [[np.nan, np.nan], [7, np.nan]])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"prompt": 1}, "row 2, column 'prompt': must be a text"),
        ({"chosen": {}}, "row 2, column 'chosen': must be objectives"),
        ({"rejected": {"x": 2, "y": 0}}, "row 2, column 'rejected': must be objectives"),
        ({"rejected": {"x": 0}}, "row 2, column 'rejected': must score the objectives x, y"),
        ({"chosen_tokens": -1}, "row 2, column 'chosen_tokens': must be a number"),
        ({"winner": 1}, "row 2, column 'winner': unknown"),
    ],
)
def test_a_malformed_pair_is_named(tmp_path: Path, change: dict[str, Any], fault: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{json.dumps({**GOOD, **change})}\n")
    with pytest.raises(SourceError, match=fault):
        read_pairs(path)
