"""Examples are near, of the request's kind, never its own, and come back from disk as they were."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routers.encoders.lexical import HashingEncoder, TfidfSvdEncoder
from routers.errors import ArtifactError, TableError
from routers.storage.shelf import Shelf, ShelfExample
from routers.storage.state_files import save_state

WORDS = {
    "law": ["judge", "court", "statute", "appeal", "jury"],
    "gene": ["cell", "enzyme", "protein", "dna"],
}


@cache
def shelf(count: int = 40, seed: int = 0) -> Shelf:
    rng = np.random.default_rng(seed)
    examples = [
        ShelfExample(f"{' '.join(rng.choice(WORDS[task], 3))} case{row}", f"guideline {row}", task)
        for row, task in enumerate(rng.choice(sorted(WORDS), count))
    ]
    return Shelf.build(examples, TfidfSvdEncoder(32), rng)


def test_a_question_sees_examples_of_its_own_kind() -> None:
    found = shelf().near("is the judge of this court on the jury", 3)
    assert [each.task for each in found] == ["law"] * 3
    assert {each.task for each in shelf().near("protein of the cell", 3)} == {"gene"}


@settings(deadline=None)
@given(st.integers(0, 39), st.booleans())
def test_nobody_sees_its_own_row(row: int, shouted: bool) -> None:
    held = shelf()
    own = held.examples[row].question
    asked = f"  {own.upper()} " if shouted else own
    assert own not in [each.question for each in held.near(asked, 39)]


def test_nearly_the_same_question_is_no_example() -> None:
    twin = "judge court statute appeal jury judge court statute appeal number 1"
    examples = [
        ShelfExample(twin, "the answer", "law"),
        ShelfExample("judge and jury", "another", "law"),
    ]
    held = Shelf.build(examples, HashingEncoder(), np.random.default_rng(0))
    # The same words in another order have the same vector.
    found = held.near("number 1 judge court statute appeal jury judge court statute appeal", 2)
    assert [each.text for each in found] == ["another"]


def test_a_shelf_comes_back_from_disk_as_it_was(tmp_path: Path) -> None:
    held, path = shelf(), tmp_path / "a.shelf"
    digest = held.save(path)
    again = Shelf.load(path)
    assert again.examples == held.examples
    assert again.near("judge and cell", 5) == held.near("judge and cell", 5)
    assert again.save(tmp_path / "b.shelf") == digest
    assert (tmp_path / "b.shelf").read_bytes() == path.read_bytes()


def test_what_is_no_shelf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.shelf"
    with pytest.raises(ArtifactError, match="can't be read"):
        Shelf.load(path)
    path.write_bytes(b"not safetensors")
    with pytest.raises(ArtifactError, match="no safetensors"):
        Shelf.load(path)
    save_state("something", ({}, {}), path)
    with pytest.raises(ArtifactError, match="holds no shelf, but something"):
        Shelf.load(path)
    shelf().save(path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"guideline 1", b"guideline 9", 1))
    with pytest.raises(ArtifactError, match="damaged"):
        Shelf.load(path)
    with pytest.raises(TableError, match="no example"):
        Shelf.build([], HashingEncoder(), np.random.default_rng(0))
