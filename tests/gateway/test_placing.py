"""Declared devices are shared out among vLLM servers, and each is told its part."""

from __future__ import annotations

import pytest

from experts.engines.vllm import VllmSpec
from experts.errors import ExpertConfigError
from gateway.errors import ConfigError
from gateway.local_specs import spec_of
from gateway.machine_price import declared_usd_per_hour
from gateway.settings.devices import placed_on, turns_memory
from gateway.settings.faults import FaultyConfigError
from gateway.settings.load import read_configuration
from gateway.settings.local import VllmExpert

TEXT = """
devices:
  - {id: "0", memory_gb: 80, usd_per_hour: 2.5}
  - {id: "1", memory_gb: 80, usd_per_hour: 2.5}
  - {id: "2", memory_gb: 24, usd_per_hour: 0.4}
experts:
  - {id: large, kind: vllm, model: /models/large, memory_gb: 100, tensor_parallel: 2}
  - {id: small, kind: vllm, model: /models/small, memory_gb: 18, args: [--max-model-len, "512"]}
  - {id: middle, kind: vllm, model: /models/middle, memory_gb: 28}
  - {id: host, kind: vllm, model: /models/host, device: cpu}
"""


def specs(text: str = TEXT) -> dict[str, VllmSpec]:
    settings = read_configuration(text, "config.yaml").settings
    found = [spec_of(each, settings) for each in settings.experts if isinstance(each, VllmExpert)]
    return {spec.expert_id: spec for spec in found if isinstance(spec, VllmSpec)}


def test_each_server_is_told_its_devices_and_its_share() -> None:
    found = specs()
    assert found["large"].env["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert found["large"].args == ("--tensor-parallel-size=2", "--gpu-memory-utilization=0.625")
    assert found["small"].env["CUDA_VISIBLE_DEVICES"] == "2"
    assert found["small"].args == ("--gpu-memory-utilization=0.75", "--max-model-len", "512")
    assert found["middle"].env["CUDA_VISIBLE_DEVICES"] in ("0", "1")
    assert found["middle"].args == ("--gpu-memory-utilization=0.35",)
    assert "CUDA_VISIBLE_DEVICES" not in found["host"].env


def test_replicas_have_devices_of_their_own_in_one_server() -> None:
    found = specs(TEXT.replace("memory_gb: 28", "memory_gb: 28, replicas: 2"))["middle"]
    assert found.env["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert found.args == ("--data-parallel-size=2", "--gpu-memory-utilization=0.35")


def test_those_that_take_turns_share_what_they_may_hold_together() -> None:
    turns = "residency: {memory_gb: 24, experts: {small: {memory_gb: 18}, other: {memory_gb: 20}}}"
    other = "  - {id: other, kind: vllm, model: /models/other, memory_gb: 20}"
    found = specs(f"{TEXT}{other}\n{turns}\n")
    assert found["small"].env["CUDA_VISIBLE_DEVICES"] == "2"
    assert found["other"].env["CUDA_VISIBLE_DEVICES"] == "2"
    with pytest.raises(FaultyConfigError, match="those that take turns takes 90 GB"):
        specs(f"{TEXT}{other}\n{turns.replace('24', '90', 1)}\n")


def test_who_comes_later_drives_nobody_from_its_devices() -> None:
    settings = read_configuration(TEXT, "config.yaml").settings
    devices, residency = settings.devices, settings.residency
    first = placed_on(devices, settings.experts, residency)

    def later(memory_gb: float) -> VllmExpert:
        return VllmExpert(kind="vllm", id="new", model="m", memory_gb=memory_gb)

    found = placed_on(devices, [*settings.experts, later(30)], residency, first)
    assert {name: found[name] for name in first} == first
    [device] = found["new"]
    assert device not in (*first["small"], *first["middle"]), "they have no room beside them"
    with pytest.raises(ExpertConfigError, match=r"new takes 31 GB, and .* beside those that run"):
        placed_on(devices, [*settings.experts, later(31)], residency, first)


def test_room_for_those_that_take_turns_is_counted_where_all_of_them_begin() -> None:
    text = """
devices: [{id: "0", memory_gb: 80}, {id: "1", memory_gb: 80}]
experts:
  - {id: wide, kind: vllm, model: m, memory_gb: 100, tensor_parallel: 2}
  - {id: one, kind: vllm, model: m, memory_gb: 40}
  - {id: two, kind: vllm, model: m, memory_gb: 50}
residency:
  memory_gb: 160
  experts: {wide: {memory_gb: 100}, one: {memory_gb: 40}, two: {memory_gb: 50}}
"""
    read = read_configuration(text, "config.yaml").settings
    found = turns_memory(read.devices, read.experts, read.residency)
    # One and two would share device 0, where there is room for either beside nobody.
    assert found == {"wide": 100, "one": 80, "two": 100}
    assert turns_memory((), read.experts, read.residency) == read.residency.memory
    with pytest.raises(FaultyConfigError, match="is more than two's devices have of"):
        specs(text.replace("two: {memory_gb: 50}", "two: {memory_gb: 81}"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("memory_gb: 28", "memory_gb: 48", "do not fit together"),
        ("memory_gb: 28", "memory_gb: 90", "middle takes 90 GB; there is device 0 of 80 GB"),
        (", memory_gb: 28", "", "is needed, since `devices` are declared"),
        ('id: "1"', 'id: "0"', "'0' is declared twice"),
        ("device: cpu", "device: cpu, memory_gb: 3", "is for a server of ours on accelerators"),
        ("--max-model-len", "--gpu-memory-utilization", "follows from `memory_gb`"),
    ],
)
def test_what_can_not_be_placed_is_refused_when_it_is_read(old: str, new: str, said: str) -> None:
    with pytest.raises(FaultyConfigError, match=said):
        specs(TEXT.replace(old, new))


def test_memory_without_devices_is_refused() -> None:
    with pytest.raises(FaultyConfigError, match="means nothing without `devices`"):
        specs("experts: [{id: a, kind: vllm, model: m, memory_gb: 3}]")


def test_an_expert_pays_for_its_share_of_its_devices() -> None:
    settings = read_configuration(TEXT, "config.yaml").settings
    assert declared_usd_per_hour(settings, ["large"]) == pytest.approx(2 * 2.5 * 50 / 80)
    assert declared_usd_per_hour(settings, ["small", "large"]) == pytest.approx(3.125 + 0.3)
    with pytest.raises(ConfigError, match="what an hour of host's machine costs; give --usd-per"):
        declared_usd_per_hour(settings, ["small", "host"])
