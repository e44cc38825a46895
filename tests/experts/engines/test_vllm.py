"""A vLLM engine as a process with children of its own, and as a server that runs already.

The servers have no model, see `experts.fakes.vllm`; `tests/vllm` does it with real ones.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from experts.engines.keeper import Backoff, Timing
from experts.engines.load import EngineLoad
from experts.engines.states import ENDED, EngineState, EngineStatus
from experts.engines.supervisor import Supervisor
from experts.engines.vllm import VllmEngine, VllmSpec
from experts.errors import EngineMoveError, EngineStartError
from experts.fakes.server import serving
from experts.fakes.vllm import FakeVllm
from tests.experts.engines.test_llama import LINUX, ended

SERVER = Path(__file__).with_name("fake_vllm_server.py")
COMMAND = (sys.executable, str(SERVER))


@pytest.fixture
def fake() -> Iterator[FakeVllm]:
    with serving(FakeVllm(api_key="sesame")) as server:
        yield server


def attached(fake: FakeVllm, **options: Any) -> VllmSpec:
    return VllmSpec("any", "tiny", base_url=fake.url, api_key="sesame", ready_s=5, **options)


def said(url: str, model: str, key: str = "sesame") -> str:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
    headers = {"authorization": f"Bearer {key}"}
    answer = httpx2.post(f"{url}/chat/completions", json=body, headers=headers, timeout=60)
    text: str = answer.raise_for_status().json()["choices"][0]["message"]["content"]
    return text


def test_a_running_server_sleeps_and_wakes_in_its_own_steps(fake: FakeVllm, tmp_path: Path) -> None:
    spec = attached(fake, sleeps=True, adapters={"law": "/adapters/law"})
    with Supervisor([spec], tmp_path) as supervisor:
        assert said(fake.url, "law") == "law says hello"
        fake.moves.clear()
        supervisor.sleep("any", 1)
        assert fake.level == 1
        supervisor.wake("any")
        assert fake.moves == ["/sleep?level=1&mode=wait", "/wake_up"]
        fake.moves.clear()
        supervisor.sleep("law", 2)
        supervisor.wake("law")
        assert fake.moves == [
            "/sleep?level=2&mode=wait",
            "/wake_up?tags=weights",
            "/collective_rpc",
            "/wake_up?tags=kv_cache",
            "/reset_prefix_cache",
            "/v1/load_lora_adapter",
        ]
        assert said(fake.url, "tiny") == "tiny says hello"
        assert said(fake.url, "law") == "law says hello"
        state = supervisor.state("any")
        assert None not in (state.start_s, state.sleep_s, state.wake_s)


def test_a_bad_adapter_is_missing_and_the_rest_serves(fake: FakeVllm, tmp_path: Path) -> None:
    fake.broken.add("/adapters/bad")
    spec = attached(fake, adapters={"bad": "/adapters/bad", "law": "/adapters/law"})
    with Supervisor([spec], tmp_path) as supervisor:
        state = supervisor.state("bad")
        assert state.status is EngineStatus.READY
        assert list(state.faults) == ["bad"]
        assert "No adapter found for /adapters/bad" in state.faults["bad"]
        assert fake.adapters == {"law": "/adapters/law"}


def test_a_server_that_is_started_anew_has_its_adapters_again(
    fake: FakeVllm, tmp_path: Path
) -> None:
    with Supervisor([attached(fake, adapters={"law": "/adapters/law"})], tmp_path) as supervisor:
        supervisor.stop("any")
        fake.adapters.clear()
        supervisor.start("any")
        assert fake.adapters == {"law": "/adapters/law"}


@pytest.mark.parametrize("version", ["0.21.3", "unknown", "1"])
def test_a_server_with_a_known_hole_is_refused(
    version: str, fake: FakeVllm, tmp_path: Path
) -> None:
    fake.version = version
    with (
        pytest.raises(EngineStartError, match=rf"'any' is vLLM {version}; .* install vLLM 0\.22"),
        Supervisor([attached(fake)], tmp_path),
    ):
        pytest.fail("it started")


def test_a_server_with_another_key_is_not_ours(fake: FakeVllm, tmp_path: Path) -> None:
    fake.api_key = "changed"
    with (
        pytest.raises(EngineStartError, match="refuses our key"),
        Supervisor([attached(fake)], tmp_path),
    ):
        pytest.fail("it started")


def test_its_load_is_read_and_a_stalled_one_is_found_out(fake: FakeVllm, tmp_path: Path) -> None:
    engine = attached(fake).engine(tmp_path)
    engine.start()
    engine.wait_ready(5)
    fake.running, fake.waiting, fake.tokens = 2, 1, 7
    assert engine.load() == EngineLoad(2, 1, 0.25, 30, 40, 7)
    for _ in range(3):
        fake.tokens += 1
        assert engine.answers(5)
    assert not engine.answers(5)
    fake.running = fake.waiting = 0
    assert engine.answers(5)
    fake.hangs = True
    assert not engine.answers(0.05)
    engine.close()


def test_one_that_hangs_is_down_until_it_answers_again(fake: FakeVllm, tmp_path: Path) -> None:
    changes: queue.Queue[EngineState] = queue.Queue()
    timing = Timing(backoff=Backoff(0, 0), probe_s=0.01, probe_timeout_s=0.05, hang_s=0.1)
    spec = attached(fake)
    with Supervisor([spec], tmp_path, on_change=changes.put, timing=timing):
        fake.hangs = True
        while (state := changes.get(timeout=60)).status is not EngineStatus.DOWN:
            pass
        assert "has answered nothing" in state.last_error
        fake.hangs = False
        while changes.get(timeout=60).status is not EngineStatus.READY:
            pass


def test_one_whose_key_has_changed_is_down_and_says_so(fake: FakeVllm, tmp_path: Path) -> None:
    changes: queue.Queue[EngineState] = queue.Queue()
    timing = Timing(backoff=Backoff(0, 0), probe_s=0.01)
    with Supervisor([attached(fake)], tmp_path, on_change=changes.put, timing=timing):
        fake.api_key = "changed"
        while (state := changes.get(timeout=60)).status is not EngineStatus.DOWN:
            pass
        assert "refuses our key (401)" in state.last_error
        fake.api_key = "sesame"
        while changes.get(timeout=60).status is not EngineStatus.READY:
            pass


def test_one_that_is_away_when_all_start_need_not_hold_them_up(tmp_path: Path) -> None:
    spec = VllmSpec("gone", base_url="http://127.0.0.1:9/v1", optional=True, ready_s=3600)
    with Supervisor([spec], tmp_path) as supervisor:
        assert supervisor.state("gone").status is EngineStatus.STARTING


def test_a_spec_serves_a_model_or_follows_a_server() -> None:
    with pytest.raises(ValueError, match="needs a model to serve or the base_url"):
        VllmSpec("tiny")


def started(tmp_path: Path, *args: str, **options: Any) -> VllmEngine:
    spec = VllmSpec("tiny", "a-model", COMMAND, args, dict(os.environ), ready_s=60, **options)
    engine = spec.engine(tmp_path)
    engine.start()
    return engine


def core_of(log: Path) -> int:
    """The process that a server started for itself, as it says."""
    return int(log.read_text().split("core ")[-1].split()[0])


@LINUX
def test_nothing_of_a_server_is_left_when_it_ends(tmp_path: Path) -> None:
    engine = started(tmp_path)
    engine.wait_ready(60)
    assert said(engine.base_url, "tiny", engine.api_key or "") == "tiny says hello"
    core = core_of(tmp_path / "tiny.log")
    assert not ended(core, 0)
    engine.stop()
    assert ended(core)
    engine.start()
    engine.wait_ready(60)
    core = core_of(tmp_path / "tiny.log")
    server = children(engine.pid)[0]
    os.kill(server, signal.SIGKILL)
    assert engine.wait_end(20) == f"ended with exit code {128 + signal.SIGKILL}"
    assert ended(core)
    engine.start()
    engine.wait_ready(60)
    family = [*children(engine.pid), core_of(tmp_path / "tiny.log")]
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)  # whoever looks after them
    engine.stop()
    assert [ended(pid) for pid in family] == [True, True]
    engine.close()


def children(pid: int | None) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


PARENT = """
import os, sys
from pathlib import Path
from tests.experts.engines.test_vllm import children, core_of, started
engine = started(Path(sys.argv[1]))
engine.wait_ready(60)
print(engine.pid, children(engine.pid)[0], core_of(Path(sys.argv[1]) / "tiny.log"), flush=True)
sys.stdin.read()
"""


@LINUX
def test_nothing_of_a_server_outlives_a_killed_gateway(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        family = [int(pid) for pid in parent.stdout.readline().split()]
        assert [ended(pid, 0) for pid in family] == [False] * 3
        parent.kill()
        parent.wait()
        assert [ended(pid) for pid in family] == [True] * 3


def test_a_command_that_is_not_there_says_so(tmp_path: Path) -> None:
    spec = VllmSpec("tiny", "a-model", ("/nowhere/vllm", "serve"))
    engine = spec.engine(tmp_path)
    engine.start()
    with pytest.raises(EngineStartError, match="can't run /nowhere/vllm: No such file"):
        engine.wait_ready(60)
    engine.close()


def test_a_server_of_ours_that_is_too_old_is_ended(tmp_path: Path) -> None:
    engine = started(tmp_path, "--version=0.19.1")
    with pytest.raises(EngineStartError, match=r"vLLM 0\.19\.1"):
        engine.wait_ready(60)
    engine.close()


def test_an_adapter_comes_and_goes_while_its_server_runs(fake: FakeVllm, tmp_path: Path) -> None:
    spec = attached(fake, adapters={"law": "/adapters/law"})
    with Supervisor([spec], tmp_path) as supervisor:
        supervisor.stop("law")
        assert fake.adapters == {}
        assert supervisor.state("law").faults == {"law": "it is stopped"}
        assert supervisor.state("law").status is EngineStatus.READY
        supervisor.sleep("any", ENDED)
        supervisor.wake("any")
        assert fake.adapters == {}, "whoever was stopped is not started by a restart"
        fake.broken.add("/adapters/law")
        with pytest.raises(
            EngineMoveError, match=r"with 400: .* No adapter found for /adapters/law"
        ):
            supervisor.start("law")
        fake.broken.clear()
        supervisor.start("law")
        assert supervisor.state("law").faults == {}
        assert said(fake.url, "law") == "law says hello"
        supervisor.stop("any")
        with pytest.raises(EngineMoveError, match="it is stopped and can't let go of 'law'"):
            supervisor.stop("law")


def test_ended_is_deeper_than_any_level(fake: FakeVllm, tmp_path: Path) -> None:
    with Supervisor([attached(fake, sleeps=True)], tmp_path) as supervisor:
        supervisor.sleep("any", ENDED)
        assert fake.level == 0
        supervisor.wake("any")
        assert supervisor.state("any").status is EngineStatus.READY


def test_other_adapters_take_their_place_awake_or_when_it_wakes(
    fake: FakeVllm, tmp_path: Path
) -> None:
    fake.broken.add("/bad")
    two = {"law": "/law", "art": "/art"}
    with Supervisor(
        [attached(fake, sleeps=True, adapters={"law": "/law"})], tmp_path
    ) as supervisor:
        supervisor.serve("any", two)
        assert fake.adapters == two
        assert supervisor.state("art").serves == ("any", "law", "art")
        with pytest.raises(EngineMoveError, match="No adapter found for /bad"):
            supervisor.serve("any", {"art": "/art", "tax": "/tax", "bad": "/bad"})
        assert fake.adapters == two, "all of them or none"
        assert supervisor.state("any").serves == ("any", "law", "art")
        supervisor.sleep("any", 1)
        supervisor.serve("any", {"tax": "/tax"})
        assert fake.adapters == two
        supervisor.wake("any")
        assert fake.adapters == {"tax": "/tax"}
        [spec] = supervisor.specs()
        assert isinstance(spec, VllmSpec)
        assert spec.max_loras == 1, "a restart takes no more memory than the first start"
        with pytest.raises(EngineMoveError, match="no local engine serves 'law'"):
            supervisor.start("law")
