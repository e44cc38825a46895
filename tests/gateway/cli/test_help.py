"""What `pointsman` says of itself, and that saying it loads nothing of what it would run."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.main import get_command

from gateway.cli.main import app, command
from tests.commands import run

NAMES = sorted(getattr(get_command(app), "commands", {}))
_LOADED = """
import json, sys
from gateway.cli.main import app
try:
    app(sys.argv[1:])
finally:
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
"""


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_what_all_commands_are_is_told_without_loading_one(word: str) -> None:
    words = [sys.executable, "-c", _LOADED, word]
    told = subprocess.run(words, capture_output=True, text=True, check=True)
    heavy = {"httpx2", "numpy", "pydantic", "sqlalchemy", "starlette", "torch", "uvicorn"}
    assert heavy.intersection(json.loads(told.stderr)) == set()
    if word == "--help":
        assert [name for name in NAMES if f" {name} " not in told.stdout] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_command_says_what_it_was_said_to_do(name: str) -> None:
    told = run(name, "--help")
    assert told.exit_code == 0
    assert f"{name} [OPTIONS]" in told.stdout
    stated = getattr(get_command(app), "commands", {})[name].help
    assert (command(name).help or "").split("\n\n")[0] == stated


def test_groups_show_their_commands() -> None:
    assert "rotate" in run("keys", "--help").stdout
    assert run("keys", "rotate", "--help").exit_code == 0
    assert "--help" in run("keys").output
