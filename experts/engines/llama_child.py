"""One llama.cpp server in its own process: `python -m experts.engines.llama_child --model FILE …`.

It ends when told to (SIGTERM), and when its parent is gone: the parent holds the other end of our
standard input and never writes to it, so the end of that file means that nobody needs us any more.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any

from experts.engines.parent import stop_with_parent

INSTALL_HINT = "pip install 'pointsman[local]'"


def main(argv: Sequence[str] | None = None) -> int:
    """Serve one model until the parent goes away or SIGTERM comes, then end the process.

    Returns:
        The exit code, if it could not start.
    """
    args = _parser().parse_args(argv)
    stop = threading.Event()
    _stop_on_sigterm(stop)
    stop_with_parent(stop)
    try:
        import xllamacpp
    except ImportError as error:
        sys.stderr.write(f"the local engine is missing ({error}); run: {INSTALL_HINT}\n")
        return 3
    try:
        server = xllamacpp.Server(_params(xllamacpp, args))  # noqa: F841 (it serves while it lives)
    except RuntimeError as error:
        sys.stderr.write(f"llama.cpp can't serve {args.model}: {error}\n")
        return 1
    stop.wait()
    # The server's own way to end was seen to hang, and there is nothing to save.
    os._exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experts.engines.llama_child")
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--alias", required=True, help="the model's name in requests and answers")
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--context", type=int, required=True, help="tokens per slot")
    parser.add_argument("--slots", type=int, required=True, help="requests answered at once")
    return parser


def _params(xllamacpp: Any, args: argparse.Namespace) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = args.model
    params.model_alias = {args.alias}
    params.hostnames = ["127.0.0.1"]
    params.port = args.port
    params.n_parallel = args.slots
    params.n_ctx = args.context * args.slots  # llama.cpp divides the total among the slots
    for pool in (params.cpuparams, params.cpuparams_batch):
        pool.n_threads = args.threads
        pool.poll = 0  # waiting threads sleep: spinning ones starve each other on a busy machine
    params.warmup = False
    params.offline = True
    params.verbosity = 2  # warnings and errors: the log must not grow with the traffic
    params.cache_ram_mib = 0  # slots keep their own prefix; more would grow without need
    params.cache_idle_slots = False
    params.swa_full = True  # or models with sliding windows (Gemma) read a shared prefix anew
    params.reuse_port = True  # the parent keeps the port reserved between restarts
    # A page in a browser on this machine could reach the port: it may not read answers, nor see
    # what others asked.
    params.cors_origins = f"http://127.0.0.1:{args.port}"
    params.cors_origins_explicit = True
    params.ui = False
    params.endpoint_slots = False
    params.endpoint_metrics = True  # counts only: how busy it is
    return params


def _stop_on_sigterm(stop: threading.Event) -> None:
    def handle(signum: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, handle)


if __name__ == "__main__":
    sys.exit(main())
