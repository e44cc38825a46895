"""What NVIDIA's driver tells of this machine's devices, where it is there to be asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from experts.engines.placement import Device
from experts.errors import ExpertConfigError

_GB = 1e9
# A card of 80 GB tells a little less, and what is written on it is in powers of ten or of two.
_TOLERANCE = 1.1


@dataclass(frozen=True, slots=True)
class Reading:
    """A device at one moment; None is unknown, and never 0.

    Attributes:
        device_id: As it was asked for.
        name: What its maker calls it.
        memory_gb: What it holds, in 1e9 bytes.
        power_w: What it draws.
        energy_j: What it has used since its driver was loaded.
        busy_share: Share of the last moment in which it computed, in [0, 1].
    """

    device_id: str
    name: str
    memory_gb: float | None
    power_w: float | None
    energy_j: float | None
    busy_share: float | None


def read_devices(device_ids: Sequence[str]) -> dict[str, Reading | None] | None:
    """What the driver tells of each device, None of one that it does not know.

    Returns None where no driver can be asked: no NVIDIA device, or no `nvidia-ml-py`.
    """
    with _driver() as nvml:
        return None if nvml is None else {one: _reading(nvml, one) for one in device_ids}


def check_devices(devices: Sequence[Device]) -> None:
    """Hold declared devices against those that there are; without a driver they are believed.

    Raises:
        ExpertConfigError: One is not there, or holds less than was declared.
    """
    found = read_devices([one.device_id for one in devices]) if devices else None
    for device in devices if found is not None else ():
        reading = found[device.device_id] if found else None
        if reading is None:
            raise ExpertConfigError(f"device {device.device_id} is declared, but not there")
        if reading.memory_gb is not None and device.memory_gb > reading.memory_gb * _TOLERANCE:
            raise ExpertConfigError(
                f"device {device.device_id} ({reading.name}) holds {reading.memory_gb:.1f} GB, "
                f"and {device.memory_gb:g} are declared"
            )


@contextmanager
def _driver() -> Iterator[Any]:
    try:
        import pynvml
    except ModuleNotFoundError:
        yield None
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def _reading(nvml: Any, device_id: str) -> Reading | None:
    try:
        if device_id.isdecimal():
            handle = nvml.nvmlDeviceGetHandleByIndex(int(device_id))
        else:
            handle = nvml.nvmlDeviceGetHandleByUUID(device_id)
    except nvml.NVMLError:
        return None

    def asked(question: str) -> Any:
        try:
            return getattr(nvml, question)(handle)
        except nvml.NVMLError:
            # Cards differ in what they can tell.
            return None

    memory, use = asked("nvmlDeviceGetMemoryInfo"), asked("nvmlDeviceGetUtilizationRates")
    power, energy = asked("nvmlDeviceGetPowerUsage"), asked("nvmlDeviceGetTotalEnergyConsumption")
    return Reading(
        device_id=device_id,
        name=str(asked("nvmlDeviceGetName") or "unknown"),
        memory_gb=None if memory is None else memory.total / _GB,
        power_w=None if power is None else power / 1e3,
        energy_j=None if energy is None else energy / 1e3,
        busy_share=None if use is None else use.gpu / 100,
    )
