"""What the supervisor relies on, whatever serves the model."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from experts.engines.base import Engine, EngineSpec
from experts.engines.llama import LlamaSpec
from experts.engines.vllm import VllmSpec
from experts.errors import EngineMoveError, EngineStartError, ExpertConfigError
from experts.fakes.server import serving
from experts.fakes.vllm import FakeVllm
from experts.weights.packaged import packaged_model
from tests.experts.engines.fake_ray import FakeRay

SERVER = Path(__file__).parent.parent / "experts" / "engines" / "fake_vllm_server.py"


def llama(folder: Path) -> Iterator[EngineSpec]:
    try:
        path = packaged_model("smollm2-135m-instruct", folder)
    except ExpertConfigError as error:
        pytest.skip(str(error))
    if find_spec("xllamacpp") is None:
        pytest.skip("the extra `local` is not installed")
    yield LlamaSpec("one", path, context_tokens=256)


def vllm(folder: Path) -> Iterator[EngineSpec]:
    yield VllmSpec("one", "m", (sys.executable, str(SERVER)), env=dict(os.environ), sleeps=True)


def vllm_that_runs(folder: Path) -> Iterator[EngineSpec]:
    with serving(FakeVllm("one", "sesame")) as fake:
        yield VllmSpec("one", base_url=fake.url, api_key="sesame", sleeps=True)


def ray(folder: Path) -> Iterator[EngineSpec]:
    with serving(FakeRay("sesame")) as fake:
        yield fake.spec("one")


@pytest.fixture(params=[llama, vllm, vllm_that_runs, ray], ids=lambda kind: kind.__name__)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    make: Callable[[Path], Iterator[EngineSpec]] = request.param
    for spec in make(tmp_path):
        one = spec.engine(tmp_path / "logs")
        try:
            yield one
        finally:
            one.close()
            one.close()


def test_it_starts_works_ends_and_starts_again_at_the_same_place(engine: Engine) -> None:
    assert engine.spec.serves[0] == engine.spec.expert_id == "one"
    assert engine.load() is None or engine.pid is None, "nothing of ours runs yet"
    url = engine.base_url
    for _ in range(2):
        engine.start()
        engine.wait_ready(60)
        assert engine.base_url == url
        assert engine.wait_end(0) is None
        assert engine.answers(10)
        if load := engine.load():
            assert load.under_way == 0
        assert engine.faults == {}
        engine.stop()
        engine.stop()
        assert engine.wait_end(0) is not None


def test_whoever_waits_for_it_is_told_that_it_was_stopped(engine: Engine) -> None:
    engine.start()
    told = threading.Event()

    def wait() -> None:
        assert engine.wait_end(60) is not None
        told.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    engine.stop()
    waiting.join(60)
    assert told.is_set()


def test_its_levels_are_those_it_sleeps_at(engine: Engine) -> None:
    engine.start()
    engine.wait_ready(60)
    for level in (1, 2):
        if level in engine.levels:
            engine.sleep(level)
            engine.wake()
            engine.wait_ready(60)
            assert engine.answers(10)
        else:
            with pytest.raises(EngineMoveError):
                engine.sleep(level)


def test_no_start_takes_longer_than_it_may(engine: Engine) -> None:
    engine.start()
    with pytest.raises(EngineStartError, match="'one'"):
        engine.wait_ready(0)
