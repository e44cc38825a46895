"""Code is run apart: it passes or fails by its tests, and can do nothing else."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from eval.errors import GraderConfigError
from eval.graders.checks import parse_check
from eval.graders.code import CodeCheck
from eval.graders.sandbox import Sandbox, SandboxError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is the kernel's")
BOX = Sandbox(timeout_s=2.0, memory_mb=128)


def ran(program: str, tests: str = "pass", sandbox: Sandbox = BOX) -> str | None:
    try:
        return sandbox.run(program, tests)
    except SandboxError as error:
        pytest.skip(str(error))


def test_an_answer_is_graded_by_its_tests() -> None:
    check = CodeCheck("assert double(4) == 8, double(4)", BOX)
    good = "Here:\n```python\ndef double(x):\n    return 2 * x\n```\nDone."
    ran("pass")
    assert check.grade(good).score == 1.0
    bad = check.grade(good.replace("2 * x", "x"))
    assert (bad.score, bad.reason) == (0.0, "failed: AssertionError: 4")
    assert check.grade("no code at all").score == 0.0


def test_without_a_sandbox_nothing_is_run_and_there_is_no_grade(tmp_path: Path) -> None:
    check = parse_check({"kind": "code", "tests": "pass"})
    given = check.grade(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert (given.score, list(tmp_path.iterdir())) == (None, [])


@pytest.mark.parametrize("fields", [{}, {"tests": ""}, {"tests": "pass", "sandbox": {}}])
def test_data_cannot_say_where_code_runs(fields: dict[str, object]) -> None:
    with pytest.raises(GraderConfigError):
        parse_check({"kind": "code", **fields})


@pytest.mark.parametrize(
    ("program", "failure"),
    [
        ("while True: pass", "SIG|did not end"),
        ("x = bytearray(1 << 30)", "MemoryError"),
        ("import os; os.fork()", "PermissionError"),
        ("import subprocess; subprocess.run(['/bin/true'])", "Error"),
        ("import threading; threading.Thread(target=print).start()", "RuntimeError"),
        ("open('big', 'wb').write(bytes(1 << 22))", "PermissionError"),
        ("import os; kept = [open(os.__file__) for n in range(99)]", "OSError"),
        ("import os; os._exit(3)", "ended by itself"),
        ("import os; os._exit(0)", "ended by itself"),
        ("raise SystemExit(0)", "SystemExit"),
        ("def f(:", "SyntaxError"),
    ],
)
def test_what_takes_too_much_fails(program: str, failure: str) -> None:
    said = ran(program)
    assert said is not None
    assert any(word in said for word in failure.split("|")), said


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_the_network_is_out_of_reach(listener: int) -> None:
    program = f"import socket\nsocket.create_connection(('127.0.0.1', {listener}), 1)"
    said = ran(program)
    assert said is not None
    assert "PermissionError" in said


def test_files_are_out_of_reach(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o644)
    for path in (secret, Path("/etc/passwd"), Path(f"/proc/{os.getpid()}/environ")):
        assert "PermissionError" in (ran(f"open({str(path)!r}).read()") or "read"), path
    assert "PermissionError" in (ran(f"open({str(tmp_path / 'new')!r}, 'w')") or "written")
    assert "PermissionError" in (ran("open('own', 'w')") or "written")


def test_other_processes_are_out_of_reach() -> None:
    assert "PermissionError" in (ran(f"import os; os.kill({os.getpid()}, 0)") or "reached")


def test_no_environment_comes_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED_SECRET", "hush")
    assert ran("import os; assert 'PLANTED_SECRET' not in os.environ") is None


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_without_end_is_not_kept(stream: str) -> None:
    program = f"""
import os, sys
wrote = 0
try:
    while wrote < 1 << 22:
        wrote += os.write(sys.{stream}.fileno(), bytes(1 << 16))
except OSError as error:
    print(error)
assert wrote <= 1 << 16, 'all of it'
"""
    said = ran(program)
    # Standard output goes nowhere, so that all of it may be written.
    assert (said == "failed: AssertionError: all of it") == (stream == "stdout")
