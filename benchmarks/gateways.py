"""What a gateway costs, beside other gateways on the same machine in the same minutes.

    python benchmarks/gateways.py --install       # the others, each in its own environment
    python benchmarks/gateways.py                 # measure, print the table
    python benchmarks/gateways.py --save          # ... keep it, and put it into the README
    python benchmarks/gateways.py --table         # the README's table from what is kept

Needs a C compiler; `apt-get install nginx-light` for the yardstick. Peers that are not installed
are left out, and said so. A provider and a client written in C (`benchmarks/load/`) share one core,
each gateway in its turn has the other one, and those that wait are frozen. Rounds are interleaved,
so that a slow minute of the machine hits all alike, and medians of rounds are taken. Rates of a
shared machine say little by themselves: compare within one run only.
"""

from __future__ import annotations

import argparse
import compileall
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks import comparison, decide
from benchmarks.running import Running, free_ports, on_core
from benchmarks.stacks import MODEL, Stack, found, install, pointsman
from gateway.routing.router_store import RouterStore
from routers.fitting.fit import fit_router

_ROOT = Path(__file__).parent.parent
_LOAD = _ROOT / "benchmarks/load"
_PROMPT = "Explain in simple terms how a gateway picks a model for a prompt. " * 12
_COSTLIER = "mock-large"
_ENCODER = "static"
_err = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A load; see `benchmarks/load/client.c` for what its numbers mean."""

    name: str
    connections: int
    seconds: float
    warm_up_s: float = 0.5
    rate: float = 0.0
    pace: str = ""
    """How the provider streams, in its own words; none: it answers at once."""

    @property
    def tokens(self) -> int:
        return 100 if self.pace else 0

    def body(self, model: str) -> bytes:
        """The request, about 1 KB."""
        content = f"{self.pace} {_PROMPT}"
        fields = {"model": model, "messages": [{"role": "user", "content": content}]}
        streamed = {"stream": True, "stream_options": {"include_usage": True}} if self.pace else {}
        return json.dumps({**fields, "max_tokens": 256, **streamed}).encode()


SCENARIOS = (
    Scenario("one", 1, 1.3),
    Scenario("many", 64, 2.0),
    Scenario("steady", 64, 3.0, rate=100),
    Scenario("first", 64, 3.0, rate=20, pace="first=20000us every=2000us tokens=100"),
    Scenario("paced", 256, 2.4, warm_up_s=1.2, pace="first=50000us every=10000us tokens=100"),
)


def main() -> None:
    """Parse the command line, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--peers", type=Path, default=Path("out/peers"), help="where they are")
    parser.add_argument("--install", action="store_true", help="install the peers and stop")
    parser.add_argument("--table", action="store_true", help="put the kept results into the README")
    parser.add_argument("--save", action="store_true", help="keep the results, and do the same")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="names of gateways, with commas between")
    parser.add_argument("--encoder", default=_ENCODER, help="of the learned router")
    args = parser.parse_args()
    peers: Path = args.peers.resolve()
    if args.install:
        install(peers)
        return
    if not args.table:
        results = measure(peers, args.rounds, args.only, args.encoder)
        if args.save:
            comparison.keep(results)
        Console(width=200).print(comparison.table(results), markup=False)
    if args.table or args.save:
        comparison.update_readme()


def measure(
    peers: Path, rounds: int, only: str | None = None, encoder: str = _ENCODER
) -> comparison.Results:
    """Start everything, load it in turns, stop everything."""
    with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="gateways-") as folder:
        scratch = Path(folder)
        ports = free_ports(10)
        command = on_core(1, (str(build("provider", scratch)), str(ports[8])))
        provider = subprocess.Popen(command, start_new_session=True)
        stack.callback(provider.wait)
        stack.callback(provider.terminate)
        client = build("client", scratch)
        compile_sources()
        _err.print("training a router on 10,000 rows")
        relaxed, strict = prepared(scratch, ports[8], encoder)
        stacks = [
            *found(peers, scratch, ports[8], ports),
            pointsman(
                "Pointsman", relaxed, ports[9], {"Pointsman": MODEL, "Pointsman, `auto`": "auto"}
            ),
            pointsman("Pointsman-strict", strict, ports[7], {"Pointsman, `strict`": MODEL}),
        ]
        wanted = only.split(",") if only else None
        chosen = [s for s in stacks if wanted is None or s.name in ("direct", *wanted)]
        for name in comparison.NAMES - {s.name for s in stacks}:
            _err.print(f"[yellow]{name} is not installed: left out[/]")
        running = []
        for each in chosen:
            running.append(started(each, scratch, client, rounds))
            stack.callback(running[-1].stop)
        figures: comparison.Figures = defaultdict(lambda: defaultdict(list))
        for number in range(1, rounds + 1):
            for gateway in running:
                gateway.thaw()
                measure_one(gateway, scratch, client, figures, number)
                gateway.freeze()
    return comparison.results(figures, {s.name: s.version for s in chosen}, rounds)


def build(name: str, scratch: Path) -> Path:
    """Compile one of the two programs."""
    program = scratch / name
    subprocess.run(["cc", "-O2", "-o", program, _LOAD / f"{name}.c"], check=True)
    return program


def compile_sources() -> None:
    """Write bytecode as an installation does, which a checkout's environment may forbid."""
    for package in ("experts", "routers", "eval", "gateway"):
        compileall.compile_dir(_ROOT / package, quiet=1)


def prepared(scratch: Path, upstream: int, encoder: str) -> list[Path]:
    """Configurations with two experts, a learned router and a ledger, `relaxed` and `strict`."""
    rng = np.random.default_rng(0)
    table = decide.outcomes(decide.Texts(rng), 10_000, 2, rng)
    table = replace(table, experts=(MODEL, _COSTLIER))
    router = fit_router("default", "knn", table, seed=0, encoder=encoder)
    store = RouterStore(scratch / "data/routers")
    store.promote("default", store.publish(router))
    expert = {"base_url": f"http://127.0.0.1:{upstream}/v1", "model": MODEL}
    experts = [
        {"id": MODEL, "prices": {"input": 0.1, "output": 0.4}, **expert},
        {"id": _COSTLIER, "prices": {"input": 1.0, "output": 4.0}, **expert},
    ]
    # Like that of the others: no line per request.
    common = {
        "experts": experts,
        "data_dir": str(scratch / "data"),
        "logging": {"level": "warning"},
    }
    paths = []
    for durability in ("relaxed", "strict"):
        ledger = {"url": f"sqlite:///{scratch}/{durability}.db", "durability": durability}
        responses = {"url": f"sqlite:///{scratch}/{durability}-responses.db"}
        paths.append(scratch / f"{durability}.json")
        settings = {**common, "ledger": ledger, "responses": responses}
        paths[-1].write_text(json.dumps(settings))
    return paths


def started(stack: Stack, scratch: Path, client: Path, rounds: int) -> Running:
    """A gateway that is up, warm and frozen; started several times where that is quick."""
    log, model = scratch / f"{stack.name}.log", next(iter(stack.rows.values()))
    body = SCENARIOS[0].body(model)
    gateway = Running(stack, log, body)
    starts = [gateway.start_s]
    while len(starts) < rounds and starts[0] < 5 and stack.command:
        gateway.stop()
        gateway = Running(stack, log, body)
        starts.append(gateway.start_s)
    gateway.start_s = float(np.median(starts))
    if stack.warm_up_s:
        for scenario in (SCENARIOS[1], SCENARIOS[3]):
            long = replace(scenario, connections=16, seconds=stack.warm_up_s, rate=0)
            load(gateway, scratch, client, long, model)
    gateway.freeze()
    _err.print(f"{stack.name} {stack.version} answers after {gateway.start_s:.2f} s")
    return gateway


def measure_one(
    gateway: Running, scratch: Path, client: Path, figures: comparison.Figures, number: int
) -> None:
    """All scenarios on one gateway, for each of the models that its rows ask for."""
    for row, model in gateway.stack.rows.items():
        for scenario in SCENARIOS:
            before = gateway.cpu_s()
            said = load(gateway, scratch, client, scenario, model)
            said["cpu_us"] = (gateway.cpu_s() - before) / max(said["all"], 1) * 1e6
            figures[row][scenario.name].append(said)
            gateway.settle()
            kept = f"{said['per_s']:>9.1f}/s  p50 {said['p50_us']:>9.1f} µs"
            failed = said["refused"] + said["broken"] + said["cut"]
            _err.print(f"{number}  {row:18} {scenario.name:7} {kept}  failed {failed:.0f}")
        start = {"start_s": gateway.start_s, "rss_mb": gateway.rss_mb()}
        figures[row]["process"].append(start)


def load(
    gateway: Running, scratch: Path, client: Path, scenario: Scenario, model: str
) -> dict[str, float]:
    """What the client says of one scenario."""
    body = scratch / "body.json"
    body.write_bytes(scenario.body(model))
    numbers = (scenario.connections, scenario.seconds, scenario.warm_up_s, scenario.rate)
    words = [str(gateway.port), gateway.stack.path, str(body), *map(str, numbers)]
    headers = ("authorization: Bearer none", *gateway.stack.headers)
    command = on_core(1, (str(client), *words, str(scenario.tokens), *headers))
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=120, start_new_session=True
    )
    said: dict[str, float] = json.loads(done.stdout)
    return said


if __name__ == "__main__":
    if sys.platform != "linux":
        _err.print("this needs Linux: epoll, /proc and taskset")
        sys.exit(1)
    main()
