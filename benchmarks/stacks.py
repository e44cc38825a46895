"""The gateways that `benchmarks/gateways.py` measures: how each is set up, started and named.

Each is configured for speed as its own documents say: no telemetry, no retries, one upstream, plain
HTTP, and where it can, no database. Pointsman alone runs with all that it is for: a ledger on disk
and a router trained on 10,000 rows. With a `strict` ledger a request waits until the disk has its
decision, as it does unless configured otherwise; with a `relaxed` one it does not.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

CHAT = "/v1/chat/completions"
MODEL = "mock-model"
PIP_PEERS = {
    "vllm-router": "vllm-router",
    "smg": "smg",
    "tensorzero": "tensorzero",
    "litellm": "litellm[proxy]",
}
_PORTKEY = {
    "dependencies": {"@portkey-ai/gateway": "^1.15.2"},
    # Newer ones of these two refuse each other.
    "overrides": {"@hono/node-server": "1.13.8", "hono": "4.9.7"},
}


@dataclass(frozen=True, slots=True)
class Stack:
    """A gateway that can be started here.

    Attributes:
        name: What the table calls it.
        version: Of what is installed.
        command: What starts it; None for the provider itself.
        port: Where it listens; None: it writes its URL to `url_file`.
        models: What a row is called, and the model that its requests name.
        warm_up_s: Load before anything is measured, for just-in-time compilers.
    """

    name: str
    version: str
    command: tuple[str, ...] | None
    port: int | None
    path: str = CHAT
    headers: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    url_file: Path | None = None
    warm_up_s: float = 0.0

    @property
    def rows(self) -> Mapping[str, str]:
        """Row names and the models that they ask for."""
        return self.models or {self.name: MODEL}


def install(peers: Path) -> None:
    """Install the peers under a folder, each in an environment of its own."""
    for name, package in PIP_PEERS.items():
        venv.create(peers / name, with_pip=True)
        subprocess.run([peers / name / "bin/pip", "install", "--quiet", package], check=True)
    if shutil.which("npm"):
        (peers / "portkey").mkdir(parents=True, exist_ok=True)
        (peers / "portkey/package.json").write_text(json.dumps(_PORTKEY))
        subprocess.run(["npm", "install", "--force"], cwd=peers / "portkey", check=True)


def found(peers: Path, scratch: Path, upstream: int, ports: list[int]) -> list[Stack]:
    """Every stack that can be started here; `ports` are free ones, seven at least."""
    url = f"http://127.0.0.1:{upstream}"
    listed = [
        Stack("direct", "", None, upstream),
        _nginx(scratch, upstream, ports[0]),
        _balancer("vllm-router", peers, url, ports[1], ports[2]),
        _balancer("smg", peers, url, ports[3], ports[4]),
        _tensorzero(peers, scratch, url),
        _portkey(peers, url, ports[5]),
        _litellm(peers, scratch, url, ports[6]),
    ]
    return [stack for stack in listed if stack is not None]


def pointsman(name: str, config: Path, port: int, rows: Mapping[str, str]) -> Stack:
    """This repository's own."""
    command = (sys.executable, "-m", "gateway.cli.main", "serve", "--config", str(config))
    return Stack(name, _own_version(), (*command, "--port", str(port)), port, models=rows)


def _own_version() -> str:
    return _said("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty")


def _nginx(scratch: Path, upstream: int, port: int) -> Stack | None:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        return None
    folder = scratch / "nginx"
    folder.mkdir()
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    scraps = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    (folder / "nginx.conf").write_text(f"""
daemon off; worker_processes 1; error_log stderr error; pid {folder}/pid;
events {{ worker_connections 4096; }}
http {{
  access_log off; tcp_nodelay on; keepalive_requests 100000000; {scraps}
  upstream provider {{
    server 127.0.0.1:{upstream}; keepalive 1024; keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
""")
    version = re.sub(r".*/", "", _said(nginx, "-v"))
    command = (nginx, "-p", str(folder), "-c", str(folder / "nginx.conf"))
    return Stack("nginx", version, command, port)


def _balancer(name: str, peers: Path, url: str, port: int, figures: int) -> Stack | None:
    program = peers / name / "bin" / name
    if not program.exists():
        return None
    command = [str(program), *(["launch", "--backend", "openai"] if name == "smg" else [])]
    command += ["--host", "127.0.0.1", "--port", str(port), "--worker-urls", url]
    # Its default policy follows prefixes, which costs it more than half of its speed.
    command += [
        "--policy",
        "round_robin",
        "--log-level",
        "error",
        "--prometheus-port",
        str(figures),
    ]
    return Stack(name, _pip_version(peers, name), tuple(command), port)


_TENSORZERO = """
import pathlib, sys, threading
from tensorzero.tensorzero import _start_http_gateway
nowhere = {"clickhouse_url": None, "postgres_url": None, "valkey_url": None}
gateway = _start_http_gateway(config_file=sys.argv[1], async_setup=False, **nowhere)
pathlib.Path(sys.argv[2]).write_text(gateway.base_url)
threading.Event().wait()
"""


def _tensorzero(peers: Path, scratch: Path, url: str) -> Stack | None:
    python = peers / "tensorzero/bin/python"
    if not python.exists():
        return None
    config, url_file = scratch / "tensorzero.toml", scratch / "tensorzero.url"
    config.write_text(f"""
gateway.observability.enabled = false
[models.{MODEL}]
routing = ["provider"]
[models.{MODEL}.providers.provider]
type = "openai"
model_name = "{MODEL}"
api_base = "{url}/v1/"
api_key_location = "none"
""")
    return Stack(
        "TensorZero",
        _pip_version(peers, "tensorzero"),
        (str(python), "-c", _TENSORZERO, str(config), str(url_file)),
        None,
        path="/openai/v1/chat/completions",
        models={"TensorZero": f"tensorzero::model_name::{MODEL}"},
        url_file=url_file,
    )


def _portkey(peers: Path, url: str, port: int) -> Stack | None:
    package = peers / "portkey/node_modules/@portkey-ai/gateway"
    node = shutil.which("node")
    if node is None or not package.exists():
        return None
    return Stack(
        "Portkey",
        json.loads((package / "package.json").read_text())["version"],
        (node, str(package / "build/start-server.js"), f"--port={port}", "--headless"),
        port,
        headers=("x-portkey-provider: openai", f"x-portkey-custom-host: {url}/v1"),
        environment={"NODE_ENV": "production"},
        warm_up_s=8.0,
    )


def _litellm(peers: Path, scratch: Path, url: str, port: int) -> Stack | None:
    program = peers / "litellm/bin/litellm"
    if not program.exists():
        return None
    config = scratch / "litellm.json"
    upstream = {"model": f"openai/{MODEL}", "api_base": f"{url}/v1", "api_key": "none"}
    settings = {
        "model_list": [{"model_name": MODEL, "litellm_params": upstream}],
        "litellm_settings": {"num_retries": 0, "telemetry": False},
        "router_settings": {"num_retries": 0},
        "general_settings": {"disable_spend_logs": True},
    }
    config.write_text(json.dumps(settings))
    environment = {
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
    }
    command = (str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port))
    version = _pip_version(peers, "litellm")
    return Stack("LiteLLM", version, command, port, environment=environment)


def _pip_version(peers: Path, package: str) -> str:
    asked = f"import importlib.metadata as m; print(m.version('{package}'))"
    return _said(str(peers / package / "bin/python"), "-c", asked)


def _said(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return (done.stdout or done.stderr).strip()
