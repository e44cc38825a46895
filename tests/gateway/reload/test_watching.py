"""What follows the configuration by itself goes on following, whatever goes wrong with one."""

from __future__ import annotations

import functools
from typing import Any

import anyio
import pytest

from experts.errors import ExpertConfigError
from experts.fakes.provider import FakeProvider
from gateway.errors import LedgerError
from gateway.reload import reloader
from tests.gateway.reload.conftest import Running, Start, expert
from tests.gateway.reload.test_engines import comes_true


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloader, "_POLL_S", 0.02)


class Faulty:
    """Builds gateways for one process, but fails with `error` while there is one."""

    def __init__(self, running: Running, error: Exception) -> None:
        self.error: Exception | None = error
        self.tries = 0
        self._reloader = running.app.state.reloader
        self._rebuild = self._reloader._rebuild
        self._reloader._rebuild = self

    def __call__(self, *args: Any) -> Any:
        self.tries += 1
        if self.error is not None:
            raise self.error
        return self._rebuild(*args)


ERRORS = pytest.mark.parametrize(
    "error",
    [LedgerError("away"), ExpertConfigError("lacks a key"), OSError("no space"), KeyError("odd")],
    ids=lambda error: type(error).__name__,
)


@ERRORS
def test_a_changed_file_that_can_not_be_served_is_not_the_last_that_is_looked_at(
    start: Start, provider: FakeProvider, error: Exception
) -> None:
    watched = {"server": {"watch_config": True}}
    running = start(experts=[expert("a", provider.url)], **watched)
    faulty = Faulty(running, error)
    running.write(experts=[expert("b", provider.url)])
    assert anyio.run(comes_true, lambda: faulty.tries == 1)
    faulty.error = None
    running.write(experts=[expert("other", provider.url)])
    assert anyio.run(comes_true, lambda: running.ask("other").status_code == 200)


@ERRORS
def test_another_process_goes_on_following_after_one_that_it_can_not_serve(
    running: Running, provider: FakeProvider, error: Exception
) -> None:
    other = running.another()
    faulty = Faulty(other, error)
    assert running.reload(experts=[expert("b", provider.url)]).status_code == 200
    assert anyio.run(comes_true, lambda: faulty.tries >= 1)
    faulty.error = None
    if not isinstance(error, LedgerError):
        # What is wrong with it stays so; of the ledger, nothing.
        assert running.reload(experts=[expert("other", provider.url)]).status_code == 200
    assert anyio.run(comes_true, lambda: other.ask("a").status_code == 404)


def test_a_full_disk_keeps_nobody_from_serving_what_is_in_force(
    running: Running, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_note: object) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(running.app.state.reloader.source.board, "note", full)
    other = running.another()
    monkeypatch.setattr(other.app.state.reloader.source.board, "note", full)
    for name in "bc":
        assert running.reload(experts=[expert(name, provider.url)]).status_code == 200
        assert anyio.run(comes_true, functools.partial(answers, other, name))


def answers(running: Running, name: str) -> bool:
    return running.ask(name).status_code == 200
