"""One child process after the other, whatever happens around them."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experts.engines.process import ServerProcess
from experts.errors import EngineStartError

SLEEPER = [sys.executable, "-c", "input()"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    server = ServerProcess("a", tmp_path / "logs")
    yield server
    server.close()


@pytest.mark.parametrize("command", [["/no/such/program"], SLEEPER], ids=["program", "processes"])
def test_a_process_that_can_not_be_made_is_a_failed_start(
    server: ServerProcess, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: Any, **_options: Any) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    if command is SLEEPER:
        monkeypatch.setattr(subprocess, "Popen", full)
    with pytest.raises(
        EngineStartError, match=r"engine 'a' can't be started: .*(No such|Resource)"
    ):
        server.start(command)
    assert not server.alive


def test_nor_is_one_without_a_place_for_its_log(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file")
    server = ServerProcess("a", tmp_path / "logs")
    with pytest.raises(EngineStartError, match="can't be started"):
        server.start(SLEEPER)
    server.close()


def test_a_log_that_somebody_removed_hides_no_failure(server: ServerProcess) -> None:
    server.start(SLEEPER)
    server.log_path.unlink()
    assert "ended with exit code 1; the end of" in str(server.start_error("ended with exit code 1"))


def test_nobody_is_ended_who_got_the_number_of_a_session_that_was(server: ServerProcess) -> None:
    server.start(SLEEPER)
    server.stop()
    stranger = subprocess.Popen(SLEEPER, stdin=subprocess.PIPE, start_new_session=True)
    try:
        assert server._process is not None
        server._process.pid = stranger.pid
        server.stop()
    finally:
        stranger.communicate(b"\n")
    assert stranger.returncode == 0
