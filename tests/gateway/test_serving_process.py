"""What `pointsman serve` sets up in the processes that answer."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

# Where the server would begin to serve, it tells how its process is set up.
SCRIPT = """
import gc, json, sys
import uvicorn
from threadpoolctl import threadpool_info

def tell(*_args, **_kwargs):
    told = {"threads": [pool["num_threads"] for pool in threadpool_info()],
            "frozen": gc.get_freeze_count()}
    print(json.dumps(told))

uvicorn.Server.run = tell
from gateway.cli.main import main
sys.argv = ["pointsman", "serve", "--config", sys.argv[1], "--port", "0"]
main()
"""


def test_one_thread_multiplies_and_what_stays_is_no_garbage(tmp_path: Path) -> None:
    config = tmp_path / "pointsman.yaml"
    config.write_text(f"data_dir: {tmp_path}\nexperts:\n  - {{kind: calculator, id: sums}}\n")
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(config)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    told = [line for line in run.stdout.splitlines() if line.startswith("{")]
    assert len(told) == 1, run.stderr
    found = json.loads(told[0])
    assert found["threads"]
    assert set(found["threads"]) == {1}
    assert found["frozen"] > 10_000


def test_where_the_port_is_taken_that_is_all_it_says(tmp_path: Path) -> None:
    config = tmp_path / "pointsman.yaml"
    config.write_text(f"data_dir: {tmp_path}\nexperts:\n  - {{kind: calculator, id: sums}}\n")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        words = ["serve", "--config", str(config), "--port", str(port)]
        run = subprocess.run(
            [sys.executable, "-m", "gateway.cli.main", *words],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == (
        f"pointsman: server.port: can't listen on 127.0.0.1:{port}: Address already in use; "
        "stop what listens there, or set another server.port\n"
    )
