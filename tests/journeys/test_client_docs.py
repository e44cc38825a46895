"""The programs of `docs/clients.md`, as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experts.base import Expert
from experts.fakes.provider import FakeProvider, Reply

Serve = Callable[..., Any]
Remote = Callable[..., Expert]
PAGE = (Path(__file__).parents[2] / "docs" / "clients.md").read_text()
PROGRAMS = re.findall(r"^## (\S+)\n\n```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "program"), PROGRAMS, ids=[name for name, _ in PROGRAMS])
def test_a_program_of_the_page_gets_its_answer(
    serve: Serve, remote: Remote, provider: FakeProvider, name: str, program: str
) -> None:
    provider.otherwise = Reply("The capital is Lima.")
    served = serve(
        {"small": remote("small", provider.url)}, keys=[{"name": "team", "key": "team-key-1"}]
    )
    assert "http://127.0.0.1:8000" in program
    here = program.replace("http://127.0.0.1:8000", served.url)
    environment = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    found = subprocess.run(
        (sys.executable, "-c", here),
        env={**environment, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "The capital is Lima." in found.stdout, found.stderr


def test_the_page_has_a_program_for_every_library() -> None:
    assert [name for name, _ in PROGRAMS] == ["openai", "anthropic", "pydantic-ai"]
