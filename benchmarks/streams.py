"""Whether a gateway stands a thousand open streams, a third of whose readers leave, for minutes.

`python benchmarks/streams.py --streams 1000 --leave 0.3 --seconds 20 --json` starts an upstream
that paces tokens, a `pointsman serve` in front of it and the clients, each in a process of its
own, and checks: every client that stays gets every frame once, in order, and the end; the
upstream sees every stream stop that was left; afterwards nothing is left over (requests, tasks,
sockets), and the ledger holds every request. `--soak 600` repeats that, with whole answers
between, and fits a line through the memory. The exit code is 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import yaml
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from sqlalchemy import func, select

from gateway.ledger.database import opened
from gateway.ledger.tables import request_result
from gateway.ledger.verify import verify_ledger

_ROOT = Path(__file__).parent.parent
_SETTLE_S = 30.0


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of the gateway.

    Attributes:
        streams: Open at once.
        leave: The share of clients that leave.
        seconds: How long each stream takes.
        interval_s: Between two of its frames.
        whole: Answers that are not streamed, after each round of streams.
        seed: Decides who leaves, and when.
        settings: More sections of the gateway's configuration.
    """

    streams: int = 1_000
    leave: float = 0.3
    seconds: float = 10.0
    interval_s: float = 0.1
    whole: int = 0
    seed: int = 1
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        """Frames of each stream."""
        return max(4, round(self.seconds / self.interval_s))


@dataclass(slots=True)
class Result:
    """What came of it; `faults` is empty if all is well."""

    rounds: int = 0
    complete: int = 0
    left: int = 0
    frames: int = 0
    whole: int = 0
    rss_mb: float = 0.0
    rss_mb_per_min: float | None = None
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Left:
    """What a gateway process holds when nothing is asked of it."""

    tasks: int
    sockets: int
    requests: int
    attempts: int
    bodies: int


class Bench:
    """A gateway under load. Use it as `with running(load) as bench`."""

    def __init__(
        self, load: Load, config: dict[str, Any], gateway: int, url: str, upstream: str
    ) -> None:
        self.load = load
        self.result = Result()
        self._config = config
        self._pid = gateway
        self.url = url
        self._upstream = upstream
        self._client = httpx2.Client(timeout=60, trust_env=False)
        # One of each first: what is only built when it is needed is no leak.
        self._drive(1, 0.0)
        self.ask_whole(1)
        self.result = Result()
        self._before = self.left()

    def close(self) -> None:
        """Close the bench's own connections."""
        self._client.close()

    def rss_mb(self) -> float:
        """Resident memory of the gateway."""
        status = Path(f"/proc/{self._pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def peak_mb(self) -> float:
        """The most that its resident memory ever was."""
        status = Path(f"/proc/{self._pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    def round(self) -> None:
        """All streams at once to their end, then the whole answers; then look for what is left."""
        before = self._stats()
        self.result.rounds += 1
        report = self._drive(self.load.streams, self.load.leave)
        self.result.complete += report["complete"]
        self.result.left += report["left"]
        self.result.frames += report["frames"]
        self.result.faults += report["faults"]
        leaving = round(self.load.streams * self.load.leave)
        self._expect("clients that left", report["left"], leaving)
        self._expect("complete streams", report["complete"], self.load.streams - leaving)
        self._await("streams that go on upstream", self._going_on, 0)
        # Those that the upstream had sent to their end when it was told can't be stopped any more.
        stopped = self._stats()["aborted"] - before["aborted"]
        if not leaving * 0.5 <= stopped <= leaving:
            self._expect("streams that the upstream saw stop", stopped, leaving)
        self.ask_whole(self.load.whole)
        self.look_for_leaks()

    def check_books(self) -> None:
        """Every request is in the ledger once, with its end; call it when the gateway ended."""
        with opened(self._config["ledger"]["url"]) as engine:
            verdict = verify_ledger(engine)
            query = select(request_result.c.status, func.count()).group_by(request_result.c.status)
            with engine.connect() as connection:
                booked = {int(status): int(count) for status, count in connection.execute(query)}
        self.result.faults += [f"ledger: {fault}" for fault in verdict.faults]
        self._expect("calls without a result", verdict.open_attempts, 0)
        answered = 2 + self.result.complete + self.result.whole
        expected = {200: answered, 499: self.result.left}
        self._expect("booked", booked, {k: v for k, v in expected.items() if v})

    def left(self) -> Left:
        """What the gateway holds now; connections to the upstream that wait for use don't count."""
        text = self._client.get(f"{self.url}/metrics").text
        families = text_string_to_metric_families(text)
        found = {
            sample.name: sample.value
            for family in families
            for sample in family.samples
            if "expert" not in sample.labels
        }
        attempts = text.partition('pointsman_attempts_in_flight{expert="paced"} ')[2].split("\n")[0]
        return Left(
            tasks=int(found["pointsman_tasks"]),
            sockets=self._sockets() - (self._stats()["connections"] - 1),
            requests=int(found["pointsman_requests_in_flight"]),
            attempts=int(float(attempts or 0)),
            bodies=int(found["pointsman_bodies_bytes"]),
        )

    def _sockets(self) -> int:
        folder = Path(f"/proc/{self._pid}/fd")
        found = 0
        for each in list(folder.iterdir()):
            try:
                found += str(each.readlink()).startswith("socket:")
            except FileNotFoundError:
                continue
        return found

    def _stats(self) -> dict[str, int]:
        stats: dict[str, int] = self._client.get(f"{self._upstream}/stats").json()
        return stats

    def _going_on(self) -> int:
        stats = self._stats()
        return stats["begun"] - stats["completed"] - stats["aborted"]

    def _drive(self, streams: int, leave: float) -> dict[str, Any]:
        load = self.load
        words = [f"--streams={streams}", f"--leave={leave}", f"--frames={load.frames}"]
        words.append(f"--seed={load.seed + self.result.rounds}")
        ended = subprocess.run(
            [sys.executable, "-m", "benchmarks.stream_clients", self.url, *words],
            cwd=_ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=load.seconds * 10 + 120,
        )
        report: dict[str, Any] = json.loads(ended.stdout)
        return report

    def ask_whole(self, count: int) -> None:
        """Ask for answers that are not streamed, one after the other."""
        body = {"model": "paced", "messages": [{"role": "user", "content": "Count. " * 20}]}
        for _ in range(count):
            answer = self._client.post(f"{self.url}/v1/chat/completions", json=body)
            self.result.whole += 1
            if answer.status_code != 200:
                self.result.faults.append(f"a whole answer was {answer.status_code}")

    def look_for_leaks(self) -> None:
        """What the gateway held before the first round is what it holds now."""
        self._await("left over", self.left, self._before)

    def _await(self, what: str, found: Callable[[], object], expected: object) -> None:
        """Some things take a moment to end; what does not is a fault."""
        until = time.monotonic() + _SETTLE_S
        while (last := found()) != expected and time.monotonic() < until:
            time.sleep(0.1)
        self._expect(what, last, expected)

    def _expect(self, what: str, found: object, expected: object) -> None:
        if found != expected:
            round_ = self.result.rounds
            self.result.faults.append(f"round {round_}: {what}: {found}, expected {expected}")


@contextmanager
def running(load: Load) -> Iterator[Bench]:
    """Upstream and gateway as processes of their own, as long as the context is open."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pointsman-bench-")))
        pace = [f"--frames={load.frames}", f"--interval={load.interval_s}"]
        upstream = _started(stack, ["benchmarks.upstream", *pace])
        assert upstream.stdout is not None  # noqa: S101 - it was asked for
        upstream_url = json.loads(upstream.stdout.readline())["url"]
        path, port = folder / "config.yaml", _free_port()
        config = _config(load, folder, upstream_url)
        path.write_text(yaml.safe_dump(config))
        words = ["gateway.cli.main", "serve", f"--config={path}", f"--port={port}"]
        gateway = _started(stack, words)
        url = f"http://127.0.0.1:{port}"
        _await_ready(url, gateway)
        bench = Bench(load, config, gateway.pid, url, upstream_url)
        stack.callback(bench.close)
        yield bench
        bench.close()
        gateway.send_signal(signal.SIGTERM)
        gateway.wait(timeout=60)
        bench.check_books()


def _config(load: Load, folder: Path, upstream: str) -> dict[str, Any]:
    prices = {"input": 1.0, "output": 2.0}
    return {
        "experts": [{"id": "paced", "base_url": f"{upstream}/v1", "prices": prices}],
        "ledger": {"url": f"sqlite:///{folder}/ledger.db", "durability": "strict"},
        "limits": {"total_s": 3600.0},
        "logging": {"level": "warning"},
        "data_dir": str(folder),
        **load.settings,
    }


def _started(stack: ExitStack, module_and_words: Sequence[str]) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", *module_and_words]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    process = subprocess.Popen(words, cwd=_ROOT, stdout=subprocess.PIPE, env=environment)
    stack.callback(_end, process)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _await_ready(url: str, gateway: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            if httpx2.get(f"{url}/health/ready", timeout=5, trust_env=False).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        if gateway.poll() is not None or time.monotonic() > until:
            raise RuntimeError("the gateway did not come up; its log is above")
        time.sleep(0.05)


class Memory:
    """Samples a gateway's memory every second in a thread."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._samples: list[tuple[float, float]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory")

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        began = time.monotonic()
        while not self._done.wait(1.0):
            self._samples.append((time.monotonic() - began, self._bench.rss_mb()))

    def slope(self, warm_up_s: float) -> float | None:
        """Least-squares growth in MB per minute after the warm-up; None of too few samples."""
        kept = np.array([sample for sample in self._samples if sample[0] >= warm_up_s])
        if len(kept) < 10:
            return None
        return float(np.polyfit(kept[:, 0] / 60, kept[:, 1], 1)[0])


def measured(load: Load, soak_s: float, warm_up_s: float, most_mb_per_min: float) -> Result:
    """One round, or rounds for `soak_s` seconds."""
    with running(load) as bench:
        until = time.monotonic() + soak_s
        with Memory(bench) as memory:
            bench.round()
            while time.monotonic() < until:
                bench.round()
        result = bench.result
        result.rss_mb = bench.rss_mb()
        if soak_s:
            result.rss_mb_per_min = memory.slope(warm_up_s)
            if result.rss_mb_per_min is None or result.rss_mb_per_min >= most_mb_per_min:
                result.faults.append(f"memory grew by {result.rss_mb_per_min} MB/min")
    return result


def main(words: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, and print; 0 if nothing is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--streams", type=int, default=1_000)
    parser.add_argument("--leave", type=float, default=0.3, help="share of clients that leave")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each stream")
    parser.add_argument("--interval", type=float, default=0.1, help="seconds between two frames")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--soak", type=float, default=0.0, help="repeat for so many seconds")
    parser.add_argument("--whole", type=int, help="whole answers per round; 500 in a soak")
    parser.add_argument("--warm-up", type=float, default=120.0, help="seconds left out of the fit")
    parser.add_argument("--most", type=float, default=1.0, help="MB per minute that may be grown")
    parser.add_argument("--settings", type=json.loads, default={}, help="more of the YAML, as JSON")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(words)
    whole = args.whole if args.whole is not None else 500 if args.soak else 0
    load = Load(
        args.streams, args.leave, args.seconds, args.interval, whole, args.seed, args.settings
    )
    result = measured(load, args.soak, args.warm_up, args.most)
    console = Console()
    if args.json:
        console.print_json(json.dumps(asdict(result)))
    else:
        for name, value in asdict(result).items():
            console.print(f"{name}: {value}")
    return 1 if result.faults else 0


if __name__ == "__main__":
    sys.exit(main())
