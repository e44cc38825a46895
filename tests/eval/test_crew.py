"""Processes that do pieces of work."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from eval.crew import LocalCrew
from eval.errors import CrewError
from eval.ray_crew import RayCrew
from routers.errors import MissingExtraError


def _add(shared: int, piece: int) -> int:
    return shared + piece


def _die_of(shared: int, piece: int) -> int:
    if piece == shared:
        os.kill(os.getpid(), signal.SIGKILL)
    return piece


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_piece_is_done_and_told_by_its_place(jobs: int) -> None:
    assert dict(LocalCrew(jobs).each(_add, 10, [1, 2, 3])) == {0: 11, 1: 12, 2: 13}


def test_a_killed_process_is_one_sentence() -> None:
    with pytest.raises(CrewError, match=r"working process was killed.*--jobs 1"):
        dict(LocalCrew(2).each(_die_of, 1, [0, 1, 2]))


def test_ray_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pointsman\[ray\]"), RayCrew("head:6379"):
        pass
