"""Work on a real Ray cluster: what comes of it, and what becomes of it when workers die."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from eval.errors import CrewError
from eval.ray_crew import Lost, RayCrew
from tests.ports import free_port
from tests.ray.conftest import Cluster
from tests.ray.pieces import add, die_once, fail

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def crew(cluster: Cluster) -> Iterator[RayCrew]:
    with RayCrew(cluster.address, jobs=2) as crew:
        yield crew


def test_every_piece_is_done_and_told_by_its_place(crew: RayCrew) -> None:
    assert dict(crew.each(add, 10, [1, 2, 3])) == {0: 11, 1: 12, 2: 13}


def test_what_the_work_raises_comes_through(crew: RayCrew) -> None:
    with pytest.raises(KeyError, match="11"):
        list(crew.each(fail, 10, [1]))


def test_a_lost_piece_is_begun_again_unless_it_has_effects(crew: RayCrew, tmp_path: Path) -> None:
    (tmp_path / "1").touch()
    assert dict(crew.each(die_once, tmp_path, [1, 2])) == {0: 1, 1: 2}
    found = dict(crew.once(die_once, tmp_path, [1, 3]))
    assert found[0] == 1
    assert isinstance(found[1], Lost)
    assert found[1].why.startswith("work was lost on the cluster: The worker died unexpectedly")


def test_what_a_worker_lacks_is_one_sentence(
    crew: RayCrew, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("def work(shared, piece): return piece\n")
    monkeypatch.syspath_prepend(tmp_path)
    work = import_module("only_here").work
    with pytest.raises(CrewError, match=r"No module named 'only_here'\): install the packages"):
        list(crew.each(work, 0, [1]))


def test_nobody_there_is_one_sentence() -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(CrewError, match=f"no Ray cluster answers at {address}: "), RayCrew(address):
        pass
    for malformed in ("auto", "http://head:1", "head:port"):
        with pytest.raises(CrewError, match=r"must be HOST:PORT or ray://HOST:PORT"):
            RayCrew(malformed).__enter__()
