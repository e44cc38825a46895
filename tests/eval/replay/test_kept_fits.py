"""A comparison that was stopped goes on where it was, and takes nothing that is stale."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eval.compare import compare
from eval.comparison import Comparison
from eval.crew import LocalCrew
from eval.errors import CrewError
from eval.report.metrics_json import to_json
from tests.eval.test_compare import without_times

ROUTERS = ["category", "knn+hashing", "ridge"]


class MortalCrew(LocalCrew):
    """Dies after so many pieces, and remembers what it was asked for."""

    def __init__(self, lives: int) -> None:
        super().__init__()
        self._lives = lives
        self.asked: list[Any] = []

    def each(
        self, work: Callable[[Any, Any], Any], shared: Any, pieces: Sequence[Any]
    ) -> Iterator[tuple[int, Any]]:
        self.asked = list(pieces)
        for place, found in super().each(work, shared, pieces):
            if place == self._lives:
                raise CrewError("died")
            yield place, found


@pytest.fixture(scope="module")
def world(make_world: Callable[..., Any]) -> Any:
    return make_world(60)


@pytest.fixture
def stopped(world: Any, tmp_path: Path) -> Path:
    """What is left of a comparison that died after two routers."""
    with pytest.raises(CrewError, match="died"):
        _compare(world, tmp_path, MortalCrew(2))
    return tmp_path


def _compare(world: Any, folder: Path | None, crew: LocalCrew, **given: Any) -> Comparison:
    given = {"replicates": 20, "fits": folder, "crew": crew, **given}
    return compare(world.train, world.test, ROUTERS, **given)


def test_what_was_stopped_goes_on_and_finds_the_same(world: Any, stopped: Path) -> None:
    crew, said = MortalCrew(9), list[str]()
    resumed = _compare(world, stopped, crew, progress=lambda what, done: said.append(what))
    assert crew.asked == ["ridge"]
    note = "2 of 3 routers were trained by a run that was stopped."
    assert resumed.notes[-1] == note
    assert note in said
    whole = _compare(world, None, LocalCrew())
    resumed = replace(resumed, notes=resumed.notes[:-1])
    assert without_times(to_json(resumed)) == without_times(to_json(whole))


def test_what_follows_from_anything_else_is_made_anew(
    world: Any, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned = replace(world, test=world.test.take(range(len(world.test))[::-1]))
    other_scores = replace(world, train=replace(world.train, score_NA=1 - world.train.score_NA))
    for another, given in ((turned, {}), (other_scores, {}), (world, {"seed": 1})):
        crew = MortalCrew(0)
        with pytest.raises(CrewError):
            _compare(another, stopped, crew, **given)
        assert crew.asked == ROUTERS
    monkeypatch.setattr("eval.replay.kept_fits.own_code", lambda: "edited")
    crew = MortalCrew(0)
    with pytest.raises(CrewError):
        _compare(world, stopped, crew)
    assert crew.asked == ROUTERS


def test_what_is_damaged_is_made_anew(world: Any, stopped: Path) -> None:
    _, cut = sorted(stopped.iterdir())
    cut.write_bytes(cut.read_bytes()[:-8])
    crew = MortalCrew(9)
    _compare(world, stopped, crew)
    assert len(crew.asked) == 2
    assert cut.stat().st_size
    crew = MortalCrew(9)
    _compare(world, stopped, crew)
    assert crew.asked == []
