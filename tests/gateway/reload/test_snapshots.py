from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from starlette.datastructures import State

from experts.cards import ExpertCard
from experts.fakes.scripted import ScriptedExpert, says
from gateway.pool.pool import Pool
from gateway.reload.snapshots import Snapshot, Snapshots
from gateway.settings.document import Document
from gateway.settings.load import Configuration
from gateway.settings.root import Settings
from gateway.state import Gateway, Uses
from gateway.wiring import build_gateway

pytestmark = pytest.mark.anyio


@pytest.fixture
def pool() -> dict[str, ScriptedExpert]:
    return {name: ScriptedExpert(ExpertCard(name), says("x")) for name in ("a", "b", "c")}


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    ledger = {"url": f"sqlite:///{tmp_path}/ledger.db"}
    settings = Settings.model_validate({"ledger": ledger, "data_dir": str(tmp_path)})
    built = build_gateway(settings, {})
    built.ledger.close()
    return built


def snapshot(gateway: Gateway, number: int, *experts: ScriptedExpert) -> Snapshot:
    pool = Pool({expert.card.expert_id: expert for expert in experts})
    document = Document("c", "", {}, {})
    again = replace(gateway, pool=pool, uses=Uses())
    return Snapshot(again, Configuration(gateway.settings, document), number, 0.0, "reload")


async def settle(snapshots: Snapshots) -> None:
    """Let everything be closed that may be."""
    with anyio.move_on_after(0.05):
        await snapshots.close_retired()


async def test_what_nobody_uses_is_closed_at_once(
    gateway: Gateway, pool: dict[str, ScriptedExpert]
) -> None:
    state = State()
    snapshots = Snapshots(state, snapshot(gateway, 1, pool["a"], pool["b"]))
    second = snapshot(gateway, 2, pool["b"], pool["c"])
    snapshots.swap(second)
    await settle(snapshots)
    assert [pool[name].closed for name in "abc"] == [True, False, False]
    assert state.gateway is second.gateway


async def test_what_a_request_still_uses_is_closed_after_it(
    gateway: Gateway, pool: dict[str, ScriptedExpert]
) -> None:
    first = snapshot(gateway, 1, pool["a"])
    snapshots = Snapshots(State(), first)
    first.gateway.uses.begin()
    first.gateway.uses.begin()
    snapshots.swap(snapshot(gateway, 2, pool["b"]))
    first.gateway.uses.end()
    await settle(snapshots)
    assert not pool["a"].closed
    assert [each.number for each in snapshots.live] == [1, 2]
    first.gateway.uses.end()
    await settle(snapshots)
    assert pool["a"].closed
    assert [each.number for each in snapshots.live] == [2]


async def test_an_expert_is_closed_once_the_last_configuration_with_it_is_done(
    gateway: Gateway, pool: dict[str, ScriptedExpert]
) -> None:
    """The second configuration ends before the first one, which still asks the shared expert."""
    first, second = snapshot(gateway, 1, pool["a"]), snapshot(gateway, 2, pool["a"], pool["b"])
    snapshots = Snapshots(State(), first)
    first.gateway.uses.begin()
    snapshots.swap(second)
    second.gateway.uses.begin()
    snapshots.swap(snapshot(gateway, 3, pool["c"]))
    second.gateway.uses.end()
    await settle(snapshots)
    assert [pool[name].closed for name in "abc"] == [False, True, False]
    first.gateway.uses.end()
    await settle(snapshots)
    assert [pool[name].closed for name in "abc"] == [True, True, False]


async def test_one_that_can_not_be_closed_does_not_keep_the_others_open(
    gateway: Gateway, pool: dict[str, ScriptedExpert], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> None:
        raise OSError

    monkeypatch.setattr(pool["b"], "aclose", broken)
    snapshots = Snapshots(State(), snapshot(gateway, 1, *pool.values()))
    await snapshots.aclose()
    assert [pool[name].closed for name in "abc"] == [True, False, True]
