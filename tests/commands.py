"""Runs a command of `pointsman` in this process, for tests."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from gateway.cli.main import app


def run(*words: str, said: str | None = None) -> Result:
    """What the command printed; whatever it failed with is raised.

    Args:
        words: The command line.
        said: What is typed meanwhile.
    """
    result = CliRunner().invoke(app, list(words), input=said)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result
