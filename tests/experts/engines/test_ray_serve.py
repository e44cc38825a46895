"""A Ray engine against Serve's REST API; `tests/ray` does it with a real cluster."""

from __future__ import annotations

import logging
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from experts.engines import ray_serve
from experts.engines.keeper import Backoff, Timing
from experts.engines.states import EngineState, EngineStatus
from experts.engines.supervisor import Supervisor
from experts.errors import EngineStartError
from experts.fakes.server import serving
from tests.experts.engines.fake_ray import FakeRay

PATIENCE_S = 60


@pytest.fixture
def fake() -> Iterator[FakeRay]:
    with serving(FakeRay("sesame")) as cluster:
        yield cluster


class Watched:
    """A supervisor of one application, and every state of it that nobody has looked at."""

    def __init__(self, supervisor: Supervisor, changes: queue.Queue[EngineState]) -> None:
        self.supervisor = supervisor
        self._changes = changes

    @property
    def state(self) -> EngineState:
        return self.supervisor.state("tiny")

    def expect(self, status: EngineStatus) -> EngineState:
        while True:
            state = self._changes.get(timeout=PATIENCE_S)
            if state.status is status:
                return state


@contextmanager
def watched(fake: FakeRay, folder: Path, **options: Any) -> Iterator[Watched]:
    changes: queue.Queue[EngineState] = queue.Queue()
    # Whoever waited for a token alone would wait for longer than a test does.
    timing = Timing(backoff=Backoff(first_s=0.0), probe_s=0.1, probe_timeout_s=3 * PATIENCE_S)
    spec = fake.spec("tiny", **options)
    with Supervisor([spec], folder, on_change=changes.put, timing=timing) as supervisor:
        yield Watched(supervisor, changes)


def other(**more: Any) -> dict[str, Any]:
    return {"name": "other", "route_prefix": "/other", "import_path": "other:app", **more}


def test_what_is_declared_is_ours_beside_all_that_is_there(fake: FakeRay, tmp_path: Path) -> None:
    options = {"runtime_env": {"pip": ["emoji"], "env_vars": {"A": "1"}}, "deployments": []}
    marked = {"pip": ["emoji"], "env_vars": {"A": "1", "POINTSMAN_EXPERT": "tiny"}}
    ours = {
        "name": "tiny",
        "route_prefix": "/tiny",
        "import_path": "words:build",
        "args": {"name": "tiny"},
        "runtime_env": marked,
        "deployments": [],
    }
    listen = {"host": "127.0.0.1", "port": 8000}
    fake.run("program")
    with watched(fake, tmp_path, options=options):
        assert fake.declarations == [{"http_options": listen, "applications": [ours]}]
        fake.declare(ours, other())
    assert fake.declarations[-1] == {"http_options": listen, "applications": [other()]}
    assert set(fake.applications) == {"program", "other"}
    assert {head["authorization"] for head in fake.headers if "authorization" in head} == {
        "Bearer sesame"
    }


def test_a_fall_is_noticed_while_serve_holds_the_call_that_asks_for_a_token(
    fake: FakeRay, tmp_path: Path
) -> None:
    with watched(fake, tmp_path) as one:
        one.expect(EngineStatus.READY)
        fake.fall("tiny", told=False)
        assert fake.stalled.wait(PATIENCE_S), "the call that Serve holds"
        fake.fall("tiny")
        down = one.expect(EngineStatus.DOWN)
        assert "UNHEALTHY: The deployments ['tiny'] are UNHEALTHY. A replica's" in down.last_error
        fake.mend("tiny")
        assert one.expect(EngineStatus.READY).restarts == 1
        assert len(fake.declarations) == 1, "Ray mends it: to declare it again would disturb that"


def test_what_somebody_else_deletes_is_declared_again(fake: FakeRay, tmp_path: Path) -> None:
    with watched(fake, tmp_path) as one:
        one.expect(EngineStatus.READY)
        fake.declare(other())
        assert one.expect(EngineStatus.DOWN).last_error == "was deleted by somebody else"
        one.expect(EngineStatus.READY)
        assert set(fake.applications) == {"tiny", "other"}


def test_what_ray_gives_up_says_why_and_is_tried_again(fake: FakeRay, tmp_path: Path) -> None:
    fake.failure = "No module named 'words'"
    with watched(fake, tmp_path, optional=True) as one:
        assert (
            "is DEPLOY_FAILED: No module named 'words'" in one.expect(EngineStatus.DOWN).last_error
        )
        fake.failure = ""
        one.expect(EngineStatus.READY)


def test_an_application_that_was_left_behind_is_taken_over(fake: FakeRay, tmp_path: Path) -> None:
    first = fake.spec("tiny").engine(tmp_path)
    first.start()
    with watched(fake, tmp_path):
        assert len(fake.declarations) == 1
    assert not fake.applications
    first.close()


def test_a_dashboard_that_is_silent_disturbs_nobody(fake: FakeRay, tmp_path: Path) -> None:
    fake.tires = True
    with watched(fake, tmp_path) as one:
        one.expect(EngineStatus.READY)
        assert fake.silent
        assert one.state.last_error == ""
        fake.silent = False


@pytest.mark.parametrize("declared", [True, False])
def test_somebody_else_s_application_is_left_alone(
    fake: FakeRay, tmp_path: Path, declared: bool
) -> None:
    fake.declare(other()) if declared else fake.run("other")
    engine = fake.spec("other").engine(tmp_path)
    with pytest.raises(EngineStartError, match="somebody else's application: delete that, or give"):
        engine.start()
    engine.close()
    assert fake.applications["other"]["status"] == "RUNNING"


def test_what_is_lost_by_a_declaration_is_told(
    fake: FakeRay, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake.before_put = [other()]
    with caplog.at_level(logging.ERROR), watched(fake, tmp_path):
        assert "application other on Ray was declared while tiny was, and is lost" in caplog.text


@pytest.mark.parametrize(
    ("token", "listen", "why"),
    [
        (None, {"host": "127.0.0.1"}, "answered GET with 401: .*token"),
        ("sesame", {}, "Serve does not run on the Ray cluster .*`http_options`"),
    ],
)
def test_a_cluster_that_can_t_be_used_says_why(
    fake: FakeRay, tmp_path: Path, token: str | None, listen: dict[str, Any], why: str
) -> None:
    engine = fake.spec("tiny", token=token, listen=listen).engine(tmp_path)
    with pytest.raises(EngineStartError, match=why):
        engine.start()
    engine.close()
    assert not fake.declarations


@pytest.mark.parametrize("said", [{"detail": "starting"}, ["other"], "hello", {"applications": 0}])
def test_what_answers_in_a_dashboards_place_says_nothing_of_applications(
    fake: FakeRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Any
) -> None:
    with watched(fake, tmp_path) as one:
        one.expect(EngineStatus.READY)
        engine = fake.spec("tiny", token="sesame").engine(tmp_path)
        with monkeypatch.context() as patched:
            patched.setattr(fake, "_shown", lambda: said)
            assert engine.wait_end(0.0) is None
            with pytest.raises(EngineStartError, match="is no Ray dashboard"):
                engine.start()
        engine.close()
        assert one.state.status is EngineStatus.READY


def test_a_dashboard_that_is_silent_when_it_stops_is_told_and_asked_again(
    fake: FakeRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_serve, "_SILENT_S", 0.0)
    with watched(fake, tmp_path) as one:
        one.expect(EngineStatus.READY)
        fake.silent = True
        one.supervisor.stop("tiny")
        assert "may run on: the Ray dashboard" in one.state.last_error
        assert "tiny" in fake.applications
        fake.silent = False
        one.supervisor.stop("tiny")
        assert not fake.applications
