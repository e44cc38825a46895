"""Collecting from an expert that fails."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from experts.base import Expert
from experts.fakes.provider import FakeProvider, Reply
from gateway.collection.collecting import Collecting, Collector, Prompt
from tests.conftest import Serve

Remote = Callable[..., Expert]

PROMPTS = [Prompt(f"q{n:02}", f"What is {n}?", None, None, None) for n in range(45)]


def test_who_fails_twenty_times_in_a_row_is_asked_no_more_and_others_are(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    refused = Reply(status=400, error={"message": "no such thing"})
    # One answer in between, and the count begins anew.
    provider.script.extend([*[refused] * 19, Reply(), *[refused] * 20])
    served = serve({"small": remote("small", provider.url)})
    found = anyio.run(Collector(Collecting(served.url, concurrency=1)).collect, PROMPTS, ["small"])
    assert [row["query_id"] for row in found.rows] == ["q19"]
    assert len(provider.bodies) == 40
    assert len(found.failures) == 44
    left_out = found.failures[39:]
    assert all("not asked, since 20 calls in a row had failed: status 400" in f for f in left_out)
    assert "no such thing" in left_out[0]


def test_nobody_stands_in_for_who_is_asked(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    """Else one column would have two answers to a question, and the file could not be read."""
    dead = "http://127.0.0.1:9/v1"
    served = serve(
        {"small": remote("small", dead), "large": remote("large", provider.url)},
        execution={"fallbacks": {"small": ["large"]}, "named_wait_s": 0, "max_retries": 0},
        aliases={"tiny": "small"},
    )
    for model, answers in (("small", 0), ("tiny", 0), ("large", 1), ("auto", 1)):
        how = Collecting(served.url, concurrency=1)
        found = anyio.run(Collector(how).collect, PROMPTS[:1], [model])
        assert [row["model"] for row in found.rows] == ["large"] * answers
        assert len(found.failures) == 1 - answers
