"""A `vllm serve` without a model, a process with a child of its own: see `experts.fakes.vllm`."""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys

from experts.fakes.vllm import FakeVllm


async def serve(args: argparse.Namespace) -> None:
    server = FakeVllm(args.served_model_name, os.environ["VLLM_API_KEY"])
    server.version = args.version
    server.pace_s = args.pace
    listener = await asyncio.start_server(server.handle, args.host, args.port)
    async with listener:
        await listener.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    for name in ("host", "served-model-name", "middleware"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--port", type=int)
    parser.add_argument("--version", default="0.32.0")
    parser.add_argument("--pace", type=float, default=0.0)
    args, _ = parser.parse_known_args()
    # vLLM computes in a process of its own; this one stays behind if nobody ends it.
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
    core = subprocess.Popen([sys.executable, "-c", code])
    sys.stdout.write(f"core {core.pid}\n")
    sys.stdout.flush()
    asyncio.run(serve(args))


if __name__ == "__main__":
    main()
