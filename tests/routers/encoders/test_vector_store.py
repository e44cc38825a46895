"""Vectors that were made once are read again, whoever else uses the folder."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pytest

from routers.encoders.lexical import HashingEncoder
from routers.encoders.vector_store import VectorStore
from routers.errors import RoutingError
from routers.features import Featurizer
from routers.records import Vectors

TEXTS = [f"text number {row}" for row in range(150)]


class Slow(HashingEncoder):
    """Counts what it is asked."""

    def __init__(self, identity: str = "one") -> None:
        super().__init__(8)
        self.identity = identity
        self.asked: list[str] = []

    def fit(self, texts: Sequence[str], rng: np.random.Generator) -> Self:
        return self

    def encode(self, texts: Sequence[str]) -> Vectors:
        self.asked += texts
        return super().encode(texts)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.safetensors"))


def test_a_text_is_encoded_once_and_for_all(tmp_path: Path) -> None:
    encoder = Slow()
    texts = [*TEXTS, TEXTS[0], "\ud800", ""]
    first = VectorStore(tmp_path).encode(encoder, texts)
    assert sorted(encoder.asked) == sorted({*texts})
    encoder.asked.clear()
    again = VectorStore(tmp_path).encode(encoder, texts[::-1])
    assert encoder.asked == []
    np.testing.assert_array_equal(again[::-1], first)
    np.testing.assert_array_equal(first, HashingEncoder(8).encode(texts))
    assert first.dtype == np.float32


def test_only_what_is_missing_is_encoded(tmp_path: Path) -> None:
    encoder = Slow()
    store = VectorStore(tmp_path)
    store.encode(encoder, TEXTS[:100])
    encoder.asked.clear()
    store.encode(encoder, TEXTS)
    assert encoder.asked == TEXTS[100:]


def test_encoders_that_differ_share_nothing(tmp_path: Path) -> None:
    one, other = Slow("one"), Slow("other")
    VectorStore(tmp_path).encode(one, TEXTS)
    VectorStore(tmp_path).encode(other, TEXTS)
    assert other.asked == TEXTS


def test_no_texts_make_no_rows(tmp_path: Path) -> None:
    assert VectorStore(tmp_path).encode(Slow(), []).shape == (0, 8)
    assert files(tmp_path) == []


@pytest.mark.parametrize("damage", ["cut", "flipped", "no safetensors", "empty"])
def test_what_is_damaged_is_made_anew(tmp_path: Path, damage: str) -> None:
    encoder = Slow()
    first = VectorStore(tmp_path).encode(encoder, TEXTS)
    (path,) = files(tmp_path)
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "cut": content[:middle],
            "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "no safetensors": b"x" * 100,
            "empty": b"",
        }[damage]
    )
    encoder.asked.clear()
    np.testing.assert_array_equal(VectorStore(tmp_path).encode(encoder, TEXTS), first)
    assert encoder.asked == TEXTS
    encoder.asked.clear()
    VectorStore(tmp_path).encode(encoder, TEXTS)
    assert encoder.asked == []


def test_what_was_used_least_recently_goes_when_there_is_too_much(tmp_path: Path) -> None:
    encoder = Slow()
    VectorStore(tmp_path).encode(encoder, TEXTS[:50])
    (first,) = files(tmp_path)
    most = int(2.5 * first.stat().st_size)
    VectorStore(tmp_path).encode(encoder, TEXTS[50:100])
    (second,) = set(files(tmp_path)) - {first}
    os.utime(first, ns=(1, 1))
    os.utime(second, ns=(2, 2))
    VectorStore(tmp_path, most).encode(encoder, TEXTS[:50])
    VectorStore(tmp_path, most).encode(encoder, TEXTS[100:])
    assert first in files(tmp_path)
    assert second not in files(tmp_path)
    assert sum(path.stat().st_size for path in files(tmp_path)) <= most


def test_one_that_is_asked_for_more_than_fits_still_answers(tmp_path: Path) -> None:
    found = VectorStore(tmp_path, most_bytes=1).encode(Slow(), TEXTS)
    np.testing.assert_array_equal(found, HashingEncoder(8).encode(TEXTS))


def encode_some(folder: Path, begin: int) -> bool:
    # Less fits than all ask for, so that files go while others are reading them.
    store = VectorStore(folder, most_bytes=8_000)
    return all(
        np.array_equal(store.encode(Slow(), few), HashingEncoder(8).encode(few))
        for start in range(12)
        for few in [(TEXTS + TEXTS)[begin + start * 5 : begin + start * 5 + 20]]
    )


def test_processes_that_share_a_folder_do_not_disturb_each_other(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        right = pool.starmap(encode_some, [(tmp_path, begin) for begin in (0, 10, 20, 30)])
    assert right == [True] * 4
    assert [path for path in tmp_path.glob("*/*") if path not in files(tmp_path)] == []


def test_progress_is_told_up_to_the_end(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    store = VectorStore(tmp_path, progress=lambda done, total: told.append((done, total)))
    store.encode(Slow(), TEXTS)
    assert told == [(64, 150), (128, 150), (150, 150)]
    store.encode(Slow(), TEXTS)
    assert len(told) == 3


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RoutingError, match=r"can't be kept in '.*file': .*choose another folder"):
        VectorStore(tmp_path / "file").encode(Slow(), TEXTS)


def test_only_slow_encoders_are_remembered(tmp_path: Path) -> None:
    store = VectorStore(tmp_path)
    Featurizer(HashingEncoder(8), store).transform(TEXTS)
    assert files(tmp_path) == []
    featurizer = Featurizer(Slow(), store).fit(TEXTS, np.random.default_rng(0))
    featurizer.transform(TEXTS)
    assert len(files(tmp_path)) == 1


def test_another_process_gets_the_same_store_and_tells_nobody(tmp_path: Path) -> None:
    told: list[int] = []
    store = VectorStore(tmp_path, 12345, progress=lambda done, total: told.append(done))
    kind, given = store.__reduce__()
    again = kind(*given)
    first = store.encode(Slow(), TEXTS[:3])
    told_here = list(told)
    np.testing.assert_array_equal(again.encode(Slow(), TEXTS[:4])[:3], first)
    assert told == told_here == [3]
