"""Routers on disk: names that are no paths, artifacts that nobody has replaced."""

from __future__ import annotations

import pickle  # noqa: TID251 - to show what never runs
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from experts.cards import ExpertCard
from experts.fakes.scripted import ScriptedExpert, says
from gateway.errors import ConfigError
from gateway.routing.router_store import RouterStore
from routers.errors import ArtifactError
from routers.router import untrained_router
from tests.conftest import Serve

Publish = Callable[[str], str]
ROOT = {"name": "root", "key": "root-key-1", "role": "admin"}
NAMES = ("../x", "..", ".", "", "/etc", "a/b", "a\\b", "a\x00b", ".new-1", "a\nb", "x" * 300)
"""What is no name of a router."""


@pytest.fixture
def store(tmp_path: Path) -> RouterStore:
    return RouterStore(tmp_path / "routers")


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_a_name_that_is_a_path_is_refused(store: RouterStore, tmp_path: Path, name: str) -> None:
    version = store.publish(untrained_router("good"))
    # What an attacker would like to have promoted lies beside the store.
    shutil.copytree(tmp_path / "routers/good", tmp_path / "x")
    before = sorted(tmp_path.rglob("*"))
    for act in (
        lambda: store.promote(name, version),
        lambda: store.rollback(name),
        lambda: store.load(name, version),
        lambda: store.manifest(name, version),
        lambda: store.promoted(name),
        lambda: store.publish(untrained_router(name)),
    ):
        with pytest.raises(ConfigError, match="no name of a router"):
            act()
    assert sorted(tmp_path.rglob("*")) == before


def test_over_http_such_a_name_is_not_found(serve: Serve) -> None:
    served = serve({"a": ScriptedExpert(ExpertCard("a"), says("Hi"))}, keys=[ROOT])
    version = served.gateway.store.publish(untrained_router("good"))
    headers = {"authorization": "Bearer root-key-1"}
    for name in ("..", "%2e%2e", "..%2f..%2fx", "%2Fetc", ".", "a%00b", "a%0Ab", "%5c..%5cx"):
        for act in ("promote", "rollback"):
            url = f"{served.url}/admin/routers/{name}/{act}"
            answer = served.client.post(url, json={"version": version}, headers=headers)
            assert answer.status_code == 404, name
    for version_like in ("../good", "..", "*", "", 5, {"$ne": 1}):
        url = f"{served.url}/admin/routers/good/promote"
        answer = served.client.post(url, json={"version": version_like}, headers=headers)
        assert answer.status_code in (400, 404), version_like
    assert served.gateway.store.promoted("good") is None


def test_a_version_that_was_replaced_by_another_is_refused(store: RouterStore) -> None:
    """Each by itself is whole and its hashes are right: only the place is wrong."""
    first = store.publish(untrained_router("r"))
    second = store.publish(untrained_router("r", epsilon=0.5))
    home = store._directory / "r"
    shutil.rmtree(home / first)
    shutil.copytree(home / second, home / first)
    assert store.load("r", second).version == second
    with pytest.raises(ArtifactError, match="it was replaced"):
        store.load("r", first)


class Runs:
    """An object that leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.mark,)


def test_a_pickle_in_place_of_an_artifact_runs_nothing(store: RouterStore, tmp_path: Path) -> None:
    version = store.publish(untrained_router("r"))
    mark = tmp_path / "ran"
    pickled = pickle.dumps(Runs(mark))
    pickle.loads(pickled)  # noqa: S301 - it is ours, and shows that it would run
    assert mark.exists()
    mark.unlink()
    numpy_file = tmp_path / "a.npy"
    np.save(numpy_file, np.array([Runs(mark)]), allow_pickle=True)
    for content in (pickled, numpy_file.read_bytes()):
        for name in ("estimator.safetensors", "encoder.safetensors", "manifest.json"):
            path = store._directory / "r" / version / name
            kept = path.read_bytes()
            path.write_bytes(content)
            with pytest.raises(ArtifactError):
                store.load("r", version)
            path.write_bytes(kept)
    assert not mark.exists()
    assert store.load("r", version).version == version
