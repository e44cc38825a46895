"""Figures of several processes, asked of one."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anyio
from prometheus_client.parser import text_string_to_metric_families

from experts.engines.states import EngineState, EngineStatus
from gateway.telemetry.engines import engine_figures
from gateway.telemetry.metrics import Metrics

OTHER = """
import sys, anyio
from pathlib import Path
from gateway.telemetry.metrics import Metrics

async def main():
    metrics = Metrics()
    metrics.share(Path(sys.argv[1]))
    metrics.requests.add(("w", "e", "p", "200"), 5)
    with anyio.move_on_after(1):
        await metrics.leave_copies()

anyio.run(main)
print("left", flush=True)
sys.stdin.read()
"""


def samples(text: bytes, name: str) -> dict[str, float]:
    families = text_string_to_metric_families(text.decode())
    return {s.labels["worker"]: s.value for f in families for s in f.samples if s.name == name}


def test_one_process_answers_for_all_that_run(tmp_path: Path) -> None:
    metrics = Metrics()
    metrics.share(tmp_path)
    metrics.requests.add(("w", "e", "p", "200"), 2)
    command: list[Any] = [sys.executable, "-c", OTHER, tmp_path]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "left\n"
        text = anyio.run(metrics.text)
        assert text.count(b"# TYPE pointsman_requests_total") == 1
        ours, theirs = str(os.getpid()), str(other.pid)
        assert samples(text, "pointsman_requests_total") == {ours: 2.0, theirs: 5.0}
        assert set(samples(text, "process_open_fds")) == {ours, theirs}
        other.stdin.close()
    assert samples(anyio.run(metrics.text), "pointsman_requests_total") == {ours: 2.0}
    assert list(tmp_path.glob(f"{theirs}*")) == []


def test_engines_are_told_of_once_whoever_answers(tmp_path: Path) -> None:
    metrics = Metrics()
    metrics.share(tmp_path)
    state = asdict(EngineState("tiny", "", EngineStatus.READY, restarts=2))
    engines = {"tiny": {"state": state, "waiting": 0, "load": None}}
    text = anyio.run(metrics.text, engine_figures(engines)).decode()
    told = [line for line in text.splitlines() if line.startswith("pointsman_engine_")]
    assert 'pointsman_engine_restarts_total{engine="tiny"} 2.0' in told
    assert not any("worker" in line for line in told)


def test_one_process_alone_has_no_such_label() -> None:
    assert b"worker=" not in anyio.run(Metrics().text)
