"""A real model in a real child process: it answers, says why it can't start, and never lingers."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import httpx2
import pytest

from experts.engines import llama_child
from experts.engines.llama import LlamaEngine, LlamaSpec
from experts.errors import EngineStartError

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="watches processes by pidfd")


@pytest.fixture(scope="module")
def engine(smollm2: LlamaSpec, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaEngine]:
    running = LlamaEngine(smollm2, tmp_path_factory.mktemp("logs"))
    try:
        running.start()
        running.wait_ready(60)
        yield running
    finally:
        running.close()


def ended(pid: int, timeout_s: float = 20) -> bool:
    """Whether a process, of whatever parent, ends within that time."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], timeout_s)[0])
    finally:
        os.close(handle)


def test_it_chats(engine: LlamaEngine) -> None:
    body = {
        "model": "smollm2",
        "messages": [{"role": "user", "content": "What is the capital of Peru?"}],
        "max_tokens": 12,
        "temperature": 0,
    }
    answer = httpx2.post(f"{engine.base_url}/chat/completions", json=body, timeout=60).json()
    assert "Lima" in answer["choices"][0]["message"]["content"]
    assert answer["model"] == "smollm2"
    assert answer["usage"]["completion_tokens"] > 0


def test_it_tells_how_busy_it_is_and_that_it_works(engine: LlamaEngine) -> None:
    before = engine.load()
    assert before is not None
    assert before.under_way == 0
    with httpx2.stream(
        "POST",
        f"{engine.base_url}/completions",
        json={"prompt": "Once", "max_tokens": 400, "ignore_eos": True, "stream": True},
        timeout=60,
    ) as stream:
        # A comment may come before it has begun.
        next(line for line in stream.iter_lines() if line.startswith("data:"))
        during = engine.load()
        assert during is not None
        assert during.running == 1
        assert engine.answers(10)


def test_every_slot_has_the_whole_context(engine: LlamaEngine) -> None:
    body = {"prompt": "word " * 280, "max_tokens": 1}
    answer = httpx2.post(f"{engine.base_url}/completions", json=body, timeout=60)
    assert answer.json()["usage"]["prompt_tokens"] > engine.spec.context_tokens // 2


def test_a_page_in_a_browser_may_not_read_what_it_says(engine: LlamaEngine) -> None:
    origin = {"origin": "http://evil.example"}
    answer = httpx2.get(f"{engine.base_url}/models", headers=origin, timeout=60)
    assert answer.headers.get("access-control-allow-origin") not in ("*", "http://evil.example")
    assert httpx2.get(engine.base_url.removesuffix("/v1") + "/slots", timeout=60).is_error


def test_a_file_that_is_no_model_ends_the_start_with_the_end_of_the_log(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    model = tmp_path / "novel.gguf"
    model.write_text("It was a dark and stormy night.")
    engine = LlamaEngine(LlamaSpec("novel", model), tmp_path / "logs")
    engine.start()
    with pytest.raises(EngineStartError, match=r"'novel' ended with exit code 1") as caught:
        engine.wait_ready(60)
    assert "invalid magic" in str(caught.value)
    engine.close()


def test_one_that_does_not_answer_in_time_is_given_up(smollm2: LlamaSpec, tmp_path: Path) -> None:
    engine = LlamaEngine(smollm2, tmp_path)
    engine.start()
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGSTOP)
    with pytest.raises(EngineStartError, match=r"no answer within 0\.1 s"):
        engine.wait_ready(0.1)
    engine.process.stop(grace_s=0.1)
    assert not engine.process.alive
    engine.close()


def test_stopped_and_started_again_it_answers_on_the_same_port(
    smollm2: LlamaSpec, tmp_path: Path
) -> None:
    engine = LlamaEngine(smollm2, tmp_path)
    base_url = engine.base_url
    first = None
    try:
        for _ in range(2):
            engine.start()
            assert engine.pid != first
            first = engine.pid
            engine.wait_ready(60)
            assert engine.process.alive
            assert engine.base_url == base_url
            engine.stop()
            assert not engine.process.alive
            assert engine.wait_end() == "ended with exit code 0"
    finally:
        engine.close()


def test_closing_gives_the_port_back(tmp_path: Path) -> None:
    engine = LlamaEngine(LlamaSpec("none", tmp_path / "none.gguf"), tmp_path)
    port = httpx2.URL(engine.base_url).port
    engine.close()
    engine.close()
    again = subprocess.run(
        [sys.executable, "-c", f"import socket; socket.socket().bind(('127.0.0.1', {port}))"],
        check=False,
    )
    assert again.returncode == 0


PARENT = """
import os, sys
from pathlib import Path
from experts.engines.llama import LlamaEngine, LlamaSpec
engine = LlamaEngine(LlamaSpec("smollm2", Path(sys.argv[1]), context_tokens=512), Path(sys.argv[2]))
engine.start()
engine.wait_ready(60)
brother = os.fork() if sys.argv[3] == "with brother" else 0
if brother or sys.argv[3] == "alone":
    print(engine.pid, brother, flush=True)
sys.stdin.read()
"""


@LINUX
@pytest.mark.parametrize("family", ["alone", "with brother"])
def test_it_ends_when_its_parent_is_killed(family: str, smollm2: LlamaSpec, tmp_path: Path) -> None:
    """A brother that was forked holds the engine's pipe open: its end is no sign then."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(smollm2.model_path), str(tmp_path), family],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        child, brother = map(int, parent.stdout.readline().split())
        assert not ended(child, 0)
        parent.kill()
        parent.wait()
        assert ended(child)
        if brother:
            os.kill(brother, signal.SIGKILL)


@LINUX
def test_it_outlives_the_thread_that_started_it(smollm2: LlamaSpec, tmp_path: Path) -> None:
    """Linux tells a child of the end of its parent's thread too; only the process's counts."""
    engine = LlamaEngine(smollm2, tmp_path)

    def start() -> None:
        engine.start()
        engine.wait_ready(60)

    thread = Thread(target=start)
    thread.start()
    thread.join()
    try:
        assert engine.wait_end(0.5) is None
        engine.wait_ready(60)
    finally:
        engine.close()


def test_it_ends_when_nobody_holds_its_standard_input(smollm2: LlamaSpec) -> None:
    """The way that works everywhere, also where a parent's end sends no signal."""
    options = {"model": smollm2.model_path, "alias": "a", "port": 0}
    options |= {"threads": 1, "context": 256, "slots": 1}
    flags = [f"--{name}={value}" for name, value in options.items()]
    finished = subprocess.run(
        [sys.executable, llama_child.__file__, *flags],
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert finished.returncode == 0


def run_child(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, input=""
    )


def test_without_the_engine_library_the_child_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['xllamacpp'] = None\n"
        "from experts.engines.llama_child import main\n"
        "sys.exit(main('--model=m --alias=a --port=1 --threads=1 --context=1 --slots=1'.split()))"
    )
    finished = run_child(code)
    assert finished.returncode == 3
    assert llama_child.INSTALL_HINT in finished.stderr


def test_importing_the_child_does_not_import_the_engine_library() -> None:
    finished = run_child(
        "import sys, experts.engines.llama_child; assert 'xllamacpp' not in sys.modules"
    )
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("field", ["threads", "context_tokens", "slots"])
def test_a_spec_of_nothing_is_refused(field: str) -> None:
    settings: dict[str, Any] = {field: 0}
    with pytest.raises(ValueError, match=f"'e': {field} must be at least 1"):
        LlamaSpec("e", Path("model.gguf"), **settings)
