"""What devices draw is told where their driver tells it."""

from __future__ import annotations

import sys

import anyio
import pytest

from gateway.telemetry.devices import device_figures
from gateway.telemetry.metrics import Metrics
from tests.experts.engines.test_nvml import FakeDriver


def test_declared_devices_tell_their_energy_and_not_what_they_do_not_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeDriver())
    text = anyio.run(Metrics().text, device_figures(["0", "1"])).decode()
    assert [line for line in text.splitlines() if line.startswith("pointsman_device_")] == [
        'pointsman_device_energy_joules_total{device="0",name="H100"} 7.0',
        'pointsman_device_busy_ratio{device="0",name="H100"} 0.4',
    ]


def test_without_a_driver_nothing_is_told_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert device_figures(["0"]) == []
