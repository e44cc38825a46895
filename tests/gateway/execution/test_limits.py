"""How long an expert is waited for: the section's limits, or its own; and who is told which."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from experts.fakes.provider import FakeProvider, Reply
from gateway.execution.traffic import Traffic
from gateway.settings.root import Settings
from tests.gateway.reload.conftest import Running, expert, start

__all__ = ["start"]

Start = Callable[..., Running]
SHORT, LONG = 0.2, 25
ASKS = pytest.mark.parametrize(
    ("limit", "short_s", "what"),
    [
        ("whole_s", SHORT, "the answer"),
        ("header_s", SHORT, "the head of the answer"),
        # What comes before must come within it.
        ("first_token_s", 1.5, "the first token"),
        ("idle_s", 1.5, "the next token"),
    ],
)
PATHS = pytest.mark.parametrize("fast", [True, False], ids=["fast", "ordinary"])


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and says nothing, ever."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"


def serving(start: Start, url: str, fast: bool, own: dict[str, Any], **limits: Any) -> Running:
    entries = [expert("own", url, limits=own), expert("other", url)]
    server = {"fast_path": fast}
    return start(experts=entries, limits={"total_s": LONG, **limits}, server=server)


def asked(running: Running, limit: str, model: str = "own") -> str:
    answer = running.ask(model, stream=limit != "whole_s")
    assert answer.status_code == (200 if limit == "idle_s" else 504)
    return answer.text


@PATHS
@ASKS
@pytest.mark.parametrize("own", [False, True], ids=["everybody", "own"])
def test_a_limit_ends_the_wait_and_is_named(
    start: Start,
    provider: FakeProvider,
    silent: str,
    fast: bool,
    own: bool,
    limit: str,
    short_s: float,
    what: str,
) -> None:
    provider.otherwise = Reply("a b c d", stall_after=2 if limit == "idle_s" else 0)
    url = silent if limit == "header_s" else provider.url
    everybodys = LONG if own else short_s
    running = serving(start, url, fast, {limit: short_s} if own else {}, **{limit: everybodys})
    said = asked(running, limit)
    assert f"{what} did not come within {short_s} s (`limits.{limit}`)" in said


def test_a_limit_of_its_own_holds_for_one_expert_alone() -> None:
    entries = [expert("own", "http://127.0.0.1:9/v1", limits={"whole_s": 300}), {"id": "other"}]
    entries[1] |= {"base_url": "http://127.0.0.1:9/v1"}
    settings = Settings.model_validate({"experts": entries, "limits": {"idle_s": 7}})
    traffic = Traffic.of(settings)
    assert traffic.limits_of("own") == settings.limits.model_copy(update={"whole_s": 300})
    assert traffic.limits_of("other") == settings.limits


def test_a_reload_changes_them(start: Start, provider: FakeProvider) -> None:
    provider.otherwise = Reply(stall_after=0)
    running = serving(start, provider.url, True, {"whole_s": LONG})
    entries = [expert("own", provider.url, limits={"whole_s": SHORT})]
    assert running.reload(experts=entries).status_code == 200
    assert f"within {SHORT} s (`limits.whole_s`)" in asked(running, "whole_s")
