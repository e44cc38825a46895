"""Several processes move one pointer, and several threads look at it: the last move stands."""

from __future__ import annotations

from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from gateway.errors import ConfigError
from gateway.routing.router_store import Promotion, RouterStore
from gateway.routing.serving import ServingRouters
from routers.router import UNTRAINED_VERSION, untrained_router
from routers.storage.artifacts import with_content_version

NAMES = ("first", "second", "third")
_ENOUGH_S = 0.5
"""Long enough for a move that nothing holds up; one that waits, as it should, makes it longer."""


@pytest.fixture
def store(tmp_path: Path) -> RouterStore:
    return RouterStore(tmp_path)


def published(store: RouterStore, epsilon: float) -> str:
    return store.publish(with_content_version(untrained_router("default", epsilon)))


def meanwhile(monkeypatch: pytest.MonkeyPatch, other: Thread) -> None:
    """Let `other` begin, and end if it can, once the pointer has been read."""
    read = RouterStore.promoted

    def promoted(store: RouterStore, name: str) -> Promotion | None:
        found = read(store, name)
        if other.ident is None:
            other.start()
            other.join(_ENOUGH_S)
        return found

    monkeypatch.setattr(RouterStore, "promoted", promoted)


@pytest.mark.parametrize(
    ("move", "given"),
    [("try_out", ("third", 0.1)), ("promote", ("third",)), ("withdraw", ()), ("rollback", ())],
)
def test_no_move_undoes_one_that_comes_between(
    store: RouterStore, monkeypatch: pytest.MonkeyPatch, move: str, given: tuple[Any, ...]
) -> None:
    versions = {name: published(store, at) for name, at in zip(NAMES, (0.1, 0.2, 0.3), strict=True)}
    store.promote("default", versions["third"])
    store.promote("default", versions["first"])
    store.try_out("default", versions["third"], 0.5)
    other = Thread(target=store.promote, args=("default", versions["second"]))
    meanwhile(monkeypatch, other)
    getattr(store, move)("default", *(versions.get(each, each) for each in given))
    other.join()
    found = store.promoted("default")
    assert found is not None
    assert found.version == versions["second"]
    assert found.trial is None


def test_who_looked_earlier_and_is_done_later_brings_no_old_version_back(
    store: RouterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = published(store, 0.1), published(store, 0.2)
    store.promote("default", old)
    serving = ServingRouters(store, "default", 0.0)

    def roll_on() -> None:
        store.promote("default", new)
        serving.refresh()

    other = Thread(target=roll_on)
    meanwhile(monkeypatch, other)
    serving.refresh()
    other.join()
    assert serving.get("default").version == new


@pytest.mark.parametrize("text", ["", "[]", '{"version": "v"}', '{"history": 5, "at": 0}'])
def test_a_damaged_pointer_is_told_and_what_serves_goes_on(
    store: RouterStore, tmp_path: Path, text: str
) -> None:
    old, tried = published(store, 0.1), published(store, 0.2)
    store.promote("default", old)
    store.try_out("default", tried, 0.3)
    serving = ServingRouters(store, "default", 0.0)
    serving.refresh()
    (tmp_path / "default" / "promoted.json").write_text(text)
    assert not serving.refresh()
    assert serving.get("default").version == old
    found = serving.tried("default")
    assert found is not None
    assert found.router.version == tried
    assert "does not say which version serves" in serving.refused["default"]
    with pytest.raises(ConfigError, match=r"promoted\.json"):
        store.rollback("default")
    # Who starts with it serves untrained, and says so.
    fresh = ServingRouters(store, "default", 0.0)
    fresh.refresh()
    assert fresh.get("default").version == UNTRAINED_VERSION
    assert fresh.refused


def test_each_step_back_is_one_version(store: RouterStore) -> None:
    versions = [published(store, at) for at in (0.1, 0.2, 0.3)]
    for version in versions:
        store.promote("default", version)
    back = [store.rollback("default") for _ in range(2)]
    assert [each.version for each in back] == [versions[1], versions[0]]
    assert [each.history for each in back] == [(versions[0],), ()]
    with pytest.raises(ConfigError, match="no earlier version"):
        store.rollback("default")


def test_a_conversation_is_decided_by_one_version_and_some_by_each(store: RouterStore) -> None:
    old, tried = published(store, 0.1), published(store, 0.2)
    store.promote("default", old)
    store.try_out("default", tried, 0.5)
    serving, rng = ServingRouters(store, "default", 0.0), np.random.default_rng(0)
    serving.refresh()
    by_session = [
        {serving.pick("default", f"s{talk}", rng).version for _ in range(5)} for talk in range(40)
    ]
    assert all(len(versions) == 1 for versions in by_session)
    assert set.union(*by_session) == {old, tried}
    alone = [serving.pick("default", None, rng).version for _ in range(40)]
    assert set(alone) == {old, tried}
