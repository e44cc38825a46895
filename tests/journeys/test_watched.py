"""What an operator sees of `pointsman serve`: log lines and figures of one process or two."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from experts.fakes.provider import FakeProvider
from tests.journeys.test_serve import answers, ask, config_in
from tests.ports import free_port

REQUESTS = re.compile(r"^pointsman_requests_total\{(.*)\} ([\d.]+)$", re.MULTILINE)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_every_request_has_its_line_and_is_counted_once(
    tmp_path: Path, provider: FakeProvider, workers: str
) -> None:
    config, port = config_in(tmp_path, provider), free_port()
    words = ["serve", "--config", str(config), "--port", str(port), "--workers", workers]
    command = [sys.executable, "-m", "gateway.cli.main", *words]
    url = f"http://127.0.0.1:{port}"
    with (tmp_path / "stderr").open("w") as stderr:
        process = subprocess.Popen(command, stderr=stderr)
        try:
            while not answers(url):
                assert process.poll() is None
            assert [ask(url) for _ in range(12)] == [200] * 12
            text, counted = "", 0.0
            # A worker hears of the others' requests with a delay of seconds.
            while counted < 12:
                text = httpx2.get(f"{url}/metrics", timeout=60, trust_env=False).text
                counted = sum(float(value) for _, value in REQUESTS.findall(text))
            assert counted == 12
            assert ("worker=" in text) == (workers == "2")
        finally:
            process.terminate()
            process.wait(timeout=30)
    said, *written = (tmp_path / "stderr").read_text().splitlines()
    assert said.startswith("serving ")
    lines = [orjson.loads(line) for line in written]
    served = [line for line in lines if line["logger"] == "pointsman.access"]
    assert [line["status"] for line in served] == [200] * 12
    assert len({line["decision_id"] for line in served}) == 12


def test_text_lines_for_people(tmp_path: Path, provider: FakeProvider) -> None:
    port = free_port()
    config = config_in(tmp_path, provider, logging={"format": "text"})
    words: list[Any] = ["serve", "--config", config, "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with (tmp_path / "stderr").open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli.main", *words], stderr=stderr
        )
        try:
            while not answers(url):
                assert process.poll() is None
            assert ask(url) == 200
        finally:
            process.terminate()
            process.wait(timeout=30)
    assert re.search(
        r"^\S+Z info pointsman\.access: request request_id=req-\S+ .*status=200 ",
        (tmp_path / "stderr").read_text(),
        re.MULTILINE,
    )
