"""Declared devices are shared out among vLLM servers, and each is told its part."""

from __future__ import annotations

import pytest

from experts.engines.vllm import VllmSpec
from experts.errors import ExpertConfigError
from experts.residency.planner import View
from gateway.engines.machine_price import declared_usd_per_hour
from gateway.engines.specs import spec_of
from gateway.errors import ConfigError
from gateway.residency.first import fitting, planner_of
from gateway.settings.devices import placed_on
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


OTHER = "  - {id: other, kind: vllm, model: /models/other, memory_gb: 20}"


def test_those_that_take_turns_get_what_the_others_leave_of_each_device() -> None:
    turns = "residency: {experts: {small: {}, other: {}}}"
    found = specs(f"{TEXT}{OTHER}\n{turns}\n")
    assert found["other"].env["CUDA_VISIBLE_DEVICES"] == "1"
    assert found["small"].env["CUDA_VISIBLE_DEVICES"] == "2"
    settings = read_configuration(f"{TEXT}{OTHER}\n{turns}\n", "config.yaml").settings
    placed = placed_on(settings.devices, settings.experts, settings.residency)
    assert {one.device_id: gb for one, gb in placed.turns.items()} == {"1": 30, "2": 24}
    # Each alone fits on its own, so they need not take turns at all.
    assert fitting(planner_of(settings), []) == {"small", "other"}


@pytest.mark.parametrize(
    ("residency", "said"),
    [
        (
            "{memory_gb: 90, experts: {small: {}, other: {}}}",
            "small, other take turns, and find no room for 90 GB together beside large, middle on",
        ),
        ("{experts: {small: {memory_gb: 17}}}", "not what small's server takes of `devices`, 18"),
        ("{memory_gb: 17, experts: {small: {}}}", "small takes 18 GB and never fits into"),
        ("{memory_gb: 17, experts: {host: {}}}", "is needed, since host runs on none of `dev"),
        ("{experts: {host: {memory_gb: 3}}}", "is needed, since host takes turns and runs on"),
    ],
)
def test_turns_that_can_not_be_taken_are_refused(residency: str, said: str) -> None:
    with pytest.raises(FaultyConfigError, match=said):
        specs(f"{TEXT}{OTHER}\nresidency: {residency}\n")


def test_one_device_is_shared_within_what_is_said() -> None:
    text = """
devices: [{id: "0", memory_gb: 80, usd_per_hour: 2}]
experts:
  - {id: always, kind: vllm, model: m, memory_gb: 24}
  - {id: law, kind: vllm, model: m, memory_gb: 40}
  - {id: physics, kind: vllm, model: m, memory_gb: 40}
residency: {memory_gb: 48, experts: {law: {memory_gb: 40}, physics: {memory_gb: 40}}}
"""
    settings = read_configuration(text, "config.yaml").settings
    placed = placed_on(settings.devices, settings.experts, settings.residency)
    assert list(placed.turns.values()) == [48]
    assert declared_usd_per_hour(settings, ["law"]) == pytest.approx(2 * 48 / 80)
    new = VllmExpert(kind="vllm", id="new", model="m", memory_gb=8)
    entries = [*settings.experts, new]
    # What they do not share is there for whoever comes by a reload, and no more.
    assert placed_on(settings.devices, entries, settings.residency, placed).turns == placed.turns
    entries[-1] = new.model_copy(update={"memory_gb": 9})
    with pytest.raises(ExpertConfigError, match="new takes 9 GB, and finds no room beside those"):
        placed_on(settings.devices, entries, settings.residency, placed)


def test_who_comes_later_drives_nobody_from_its_devices() -> None:
    settings = read_configuration(TEXT, "config.yaml").settings
    devices, residency = settings.devices, settings.residency
    first = placed_on(devices, settings.experts, residency)

    def later(memory_gb: float) -> VllmExpert:
        return VllmExpert(kind="vllm", id="new", model="m", memory_gb=memory_gb)

    found = placed_on(devices, [*settings.experts, later(30)], residency, first)
    assert {name: found.seats[name] for name in first.seats} == first.seats
    [device] = found.seats["new"]
    taken = (*first.seats["small"], *first.seats["middle"])
    assert device not in taken, "they have no room beside them"
    with pytest.raises(ExpertConfigError, match=r"new takes 31 GB, and .* beside those that run"):
        placed_on(devices, [*settings.experts, later(31)], residency, first)


def test_those_on_devices_of_their_own_are_awake_together() -> None:
    text = """
devices: [{id: "0", memory_gb: 80}, {id: "1", memory_gb: 80}]
experts:
  - {id: wide, kind: vllm, model: m, memory_gb: 100, tensor_parallel: 2}
  - {id: one, kind: vllm, model: m, memory_gb: 70}
  - {id: two, kind: vllm, model: m, memory_gb: 75}
residency: {experts: {wide: {}, one: {}, two: {}}}
"""
    planner = planner_of(read_configuration(text, "config.yaml").settings)
    assert planner.fits("one", ["two"])
    assert not planner.fits("wide", ["one"])
    moves = planner.plan(1.0, View({"one": 0, "two": 0}, waiting={"wide": [1.0]}))
    assert set(moves.sleep) == {"one", "two"}


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
