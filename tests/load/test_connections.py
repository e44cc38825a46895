"""More connections, bodies and readers than anybody needs: others are served, memory is bounded."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx2
import pytest

from benchmarks.streams import Bench, Load, running
from gateway.server.files import raise_file_limit
from tests.gateway.raw import CHAT, chat

pytestmark = pytest.mark.slow
CONNECTIONS = 10_000
MB = 1024 * 1024
BODIES = 16
ONE = Load(streams=1, leave=0.0, seconds=1)


def served(bench: Bench) -> None:
    before = len(bench.result.faults)
    bench.ask_whole(20)
    assert bench.result.faults[before:] == []


def test_ten_thousand_idle_connections() -> None:
    raise_file_limit()
    with running(ONE) as bench:
        before_mb = bench.rss_mb()
        address = urlsplit(bench.url)

        async def open_and_look() -> None:
            slots = asyncio.Semaphore(200)
            writers: list[asyncio.StreamWriter] = []

            async def one(number: int) -> None:
                async with slots:
                    reader, writer = await asyncio.open_connection(address.hostname, address.port)
                    writers.append(writer)
                    if number % 2:
                        writer.write(b"GET /health/live HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
                        await reader.readuntil(b"\r\n\r\n")

            async with asyncio.TaskGroup() as tasks:
                for number in range(CONNECTIONS):
                    tasks.create_task(one(number))
            await asyncio.to_thread(served, bench)
            assert bench.rss_mb() - before_mb < 300
            for writer in writers:
                writer.close()

        asyncio.run(open_and_look())
        served(bench)
        bench.look_for_leaks()
    assert bench.result.faults == []


def test_many_huge_bodies_at_once() -> None:
    """Each needs some 130 MB; together they get what `limits.max_bodies_bytes` says."""
    load = Load(1, 0.0, 1, settings={"limits": {"max_bodies_bytes": 512 * MB}})
    body = chat(model="paced", user="x" * (31 * MB))
    with running(load) as bench:

        def send(_: int) -> int:
            answer = httpx2.post(bench.url + CHAT, content=body, timeout=120, trust_env=False)
            return answer.status_code

        before_mb = bench.rss_mb()
        with ThreadPoolExecutor(BODIES) as threads:
            statuses = list(threads.map(send, range(BODIES)))
        assert set(statuses) <= {200, 503}
        assert statuses.count(200) >= 1
        bench.result.whole += statuses.count(200)
        assert bench.peak_mb() - before_mb < 1024
        served(bench)
        bench.look_for_leaks()
    assert bench.result.faults == []
