"""Calls of our own experts come to cost what their machines do, over SQLite and PostgreSQL."""

from __future__ import annotations

import sys

import pytest
from sqlalchemy import update

from experts.messages import Usage
from gateway.engines.machine_price import Renewal, declared_usd_per_hour, machines
from gateway.ids import now
from gateway.ledger import tables
from gateway.ledger.queries import LedgerReader
from gateway.ledger.store import Ledger
from gateway.ledger.upkeep import upkeep
from gateway.ledger.verify import verify_ledger
from gateway.settings.load import read_configuration
from gateway.settings.root import Settings
from tests.contracts.booked import CHEAP, UNPRICED, a_decision, booked
from tests.experts.engines.test_nvml import FakeDriver

DAY_S = 86_400.0
ON_DEVICES = """
devices:
  - {id: "0", memory_gb: 80, usd_per_hour: 2, usd_per_kwh: 0.5}
experts:
  - {id: cheap, kind: vllm, model: /models/cheap, memory_gb: 40}
  - {id: second, kind: vllm, model: /models/second, memory_gb: 20}
  - {id: third, kind: vllm, model: /models/third, memory_gb: 30}
  - {id: adapted, kind: adapter, engine: third, path: /adapters/one}
residency: {memory_gb: 30, experts: {second: {memory_gb: 20}, third: {memory_gb: 30}}}
"""
PACKAGED = "experts: [{id: cheap, kind: packaged, package: gemma-3-270m%s}]"


def settings_of(text: str, ledger: str = "") -> Settings:
    return read_configuration(f"{text}\n{ledger}", "config.yaml").settings


class Clock:
    """Seconds since 1970, which tests move."""

    def __init__(self) -> None:
        self.now = now() - 1.0

    def __call__(self) -> float:
        return self.now


def asked(ledger: Ledger) -> None:
    """Four calls of cheap, of a second each, and one of an expert that is not ours."""
    for output in (5, 10, 20, 40):
        booked(ledger, a_decision(CHEAP), Usage(input=10, output=output))
    with ledger.engine.begin() as connection:
        connection.execute(update(tables.attempt_result).values(latency_s=1.0))
    booked(ledger, a_decision(UNPRICED))


def spent(ledger: Ledger) -> dict[str, float]:
    return {row["expert"]: row["cost_usd"] for row in LedgerReader(ledger.engine).by_expert()}


def test_a_day_of_calls_pays_for_a_day_of_the_machine(ledger: Ledger) -> None:
    clock = Clock()
    renewal = Renewal(settings_of(PACKAGED % ", usd_per_hour: 0.25"), clock)
    asked(ledger)
    before = spent(ledger)
    clock.now += DAY_S
    # Calls that began just before its end may not be booked yet.
    renewal(ledger.engine)
    assert spent(ledger) == before
    clock.now += 1000.0
    renewal(ledger.engine)
    paid = spent(ledger)
    assert paid["cheap"] == pytest.approx(24 * 0.25, rel=0.01)
    assert paid["unpriced"] == before["unpriced"]
    reader = LedgerReader(ledger.engine)
    assert reader.count(tables.cost_correction) == 4
    assert verify_ledger(ledger.engine).faults == ()
    # Each call is priced once: the next day has calls of its own, or none.
    clock.now += DAY_S
    renewal(ledger.engine)
    assert spent(ledger) == paid


def test_the_ledgers_upkeep_prices_what_is_left_when_the_gateway_ends(
    ledger: Ledger, url: str
) -> None:
    clock = Clock()
    settings = settings_of(PACKAGED % ", usd_per_hour: 0.25")
    with upkeep(url, settings.ledger, Renewal(settings, clock)):
        asked(ledger)
        before = spent(ledger)
        clock.now += 2 * 3600.0
    assert before["cheap"] < 0.001
    assert spent(ledger)["cheap"] == pytest.approx(0.5, rel=0.01)


def test_nothing_is_priced_that_was_not_said_to_be(ledger: Ledger) -> None:
    said = PACKAGED % ", usd_per_hour: 0.25"
    refused = settings_of(said, "ledger: {price_machines_hours: null}")
    assumed, short = settings_of(PACKAGED % ""), settings_of(said)
    clock = Clock()
    renewals = [Renewal(each, clock) for each in (refused, assumed, short)]
    asked(ledger)
    clock.now += 1800.0
    renewals[2](ledger.engine, ending=True)
    clock.now += 2 * DAY_S
    for renewal in renewals[:2]:
        # Whoever only ends need not open the ledger for it.
        assert not renewal.due(ending=True)
        renewal(ledger.engine)
        renewal(ledger.engine, ending=True)
    assert LedgerReader(ledger.engine).count(tables.cost_correction) == 0


class Meter(FakeDriver):
    """A card that has used some energy."""

    used_kwh = 100.0

    def nvmlDeviceGetTotalEnergyConsumption(self, _: str) -> float:  # noqa: N802
        return self.used_kwh * 3.6e9


def test_energy_is_paid_for_by_those_that_have_the_device(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter, clock = Meter(), Clock()
    monkeypatch.setitem(sys.modules, "pynvml", meter)
    renewal = Renewal(settings_of(ON_DEVICES), clock)
    asked(ledger)
    clock.now += 10 * 3600.0
    meter.used_kwh += 8.0
    renewal(ledger.engine, ending=True)
    # Half the memory of a device for $2 an hour, and half of 8 kWh for 50 cents each.
    assert spent(ledger)["cheap"] == pytest.approx(10 * 1.0 + 4 * 0.5, rel=0.01)
    with ledger.engine.connect() as connection:
        (reason,) = set(connection.execute(tables.cost_correction.select()).scalars("reason"))
    assert "4 kWh for $2 included" in reason


def test_those_that_take_turns_pay_for_their_memory_together() -> None:
    settings = settings_of(ON_DEVICES)
    alone, together = machines(settings)
    assert (alone.experts, alone.usd_per_hour) == (("cheap",), 1.0)
    assert (together.experts, together.usd_per_hour) == (("second", "third", "adapted"), 0.75)
    assert declared_usd_per_hour(settings, ["second", "adapted", "cheap"]) == 1.75


def test_energy_that_no_driver_tells_is_said_to_be_in_no_price(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    Renewal(settings_of(ON_DEVICES))
    assert "`usd_per_kwh` of device 0 has no effect" in caplog.text
