"""Devices are read where a driver is, believed where none is, and never said to use nothing."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from experts.engines.nvml import check_devices, read_devices
from experts.engines.placement import Device
from experts.errors import ExpertConfigError


class FakeDriver(ModuleType):
    """NVML with one card of 80 GiB, number 0, that can't tell what it draws."""

    class NVMLError(Exception):
        """As pynvml has it."""

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.open = 0

    def nvmlInit(self) -> None:  # noqa: N802
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        if index:
            raise self.NVMLError
        return "card"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if uuid != "GPU-1":
            raise self.NVMLError
        return "card"

    def nvmlDeviceGetPowerUsage(self, _: str) -> int:  # noqa: N802
        raise self.NVMLError

    def __getattr__(self, name: str) -> Any:
        told = {
            "nvmlDeviceGetName": "H100",
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=80 * 2**30),
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=40),
            "nvmlDeviceGetTotalEnergyConsumption": 7_000,
        }
        if name not in told:
            raise AttributeError(name)
        return lambda _: told[name]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    fake = FakeDriver()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def test_what_a_card_tells_is_read_and_what_it_does_not_is_unknown(driver: FakeDriver) -> None:
    found = read_devices(["0", "GPU-1", "1"])
    assert found is not None
    assert (found["0"], found["1"]) == (found["0"], None)
    for name in ("0", "GPU-1"):
        reading = found[name]
        assert reading is not None
        assert (reading.name, reading.energy_j, reading.busy_share) == ("H100", 7.0, 0.4)
        assert reading.power_w is None
        assert reading.memory_gb == pytest.approx(85.9, abs=0.01)
    assert driver.open == 0


@pytest.mark.parametrize(
    ("device", "said"),
    [
        (Device("1", 80), "device 1 is declared, but not there"),
        (Device("0", 141), r"device 0 \(H100\) holds 85.9 GB, and 141 are declared"),
    ],
)
def test_a_false_declaration_is_refused(driver: FakeDriver, device: Device, said: str) -> None:
    check_devices([Device("0", 80)])
    with pytest.raises(ExpertConfigError, match=said):
        check_devices([device])


def test_without_a_driver_declarations_are_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert read_devices(["0"]) is None
    check_devices([Device("0", 1000)])


@pytest.mark.gpu
def test_a_real_card_tells_its_memory_and_energy() -> None:
    if importlib.util.find_spec("pynvml") is None:
        pytest.skip("nvidia-ml-py is not installed")
    found = read_devices(["0"])
    if found is None:
        pytest.skip("no NVIDIA driver here")
    reading = found["0"]
    assert reading is not None
    assert reading.memory_gb is not None
    assert reading.memory_gb > 1
