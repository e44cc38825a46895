"""What becomes of kept answers when the configuration changes."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from experts.fakes.provider import FakeProvider, Reply
from tests.gateway.reload.conftest import Start, expert


@pytest.mark.parametrize(
    ("sections", "again"),
    [
        ({"limits": {"total_s": 60}}, "hit"),
        ({"guards": [{"kind": "pii"}]}, "miss"),
        ({"aliases": {"it": "b"}}, "miss"),
        ({"routing": {"policies": {"best": {"only_local": True}}}}, "miss"),
    ],
    ids=["limits", "guards", "aliases", "policies"],
)
def test_kept_answers_outlive_only_what_does_not_bear_on_them(
    start: Start, provider: FakeProvider, sections: dict[str, Any], again: str
) -> None:
    provider.otherwise = Reply("Write to ann@x.org")
    running = start(
        experts=[expert("a", provider.url), expert("b", provider.url)],
        aliases={"it": "a"},
        cache={"exact": True},
    )
    assert [_state(running.ask("it")) for _ in range(2)] == ["miss", "hit"]
    assert running.reload(**sections).status_code == 200
    assert _state(running.ask("it")) == again


def _state(answer: httpx2.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.headers["x-pointsman-cache"])
