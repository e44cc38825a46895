"""A client that wishes for more haste than there is harms nobody but itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from experts.base import Expert
from experts.fakes.provider import FakeProvider, Reply, fake_provider
from experts.http.openai_compatible import OpenAICompatibleExpert

Serve = Callable[..., Any]
Remote = Callable[..., Expert]
HASTE = {"max_latency_ms": 300}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_missed_wishes_put_no_expert_out_of_service(
    serve: Serve, remote: Remote, provider: FakeProvider, stream: bool
) -> None:
    served = serve({"slow": remote("slow", provider.url)}, breaker={"failures": 2})
    provider.otherwise = Reply(stall_after=0)
    for _ in range(3):
        late = served.ask("slow", stream=stream, pointsman=HASTE)
        assert late.status_code == 504
        assert late.json()["error"]["code"] == "upstream_timeout"
    provider.otherwise = Reply("here")
    assert served.ask("slow").status_code == 200


def test_limits_of_our_own_still_count(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    served = serve(
        {"slow": remote("slow", provider.url)},
        breaker={"failures": 2, "alone_s": 0},
        limits={"whole_s": 0.05},
    )
    provider.otherwise = Reply(stall_after=0)
    wish = {"max_latency_ms": 60_000}
    codes = [served.ask("slow", pointsman=wish).json()["error"]["code"] for _ in range(3)]
    assert codes == ["upstream_timeout", "upstream_timeout", "expert_out_of_service"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_missed_wishes_put_no_endpoint_out_of_service(
    serve: Serve, remote: Remote, provider: FakeProvider, stream: bool
) -> None:
    with fake_provider() as other:
        card = remote("twice", provider.url).card
        urls = (provider.url, other.url)
        served = serve({"twice": OpenAICompatibleExpert(card, urls, "m")}, breaker={"failures": 1})
        for each in (provider, other):
            each.otherwise = Reply(stall_after=0)
        for _ in range(3):
            assert served.ask("twice", stream=stream, pointsman=HASTE).status_code == 504
        (expert,) = served.client.get("/admin/experts").json()["experts"]
        assert expert["health"] == "closed"
        assert [endpoint["wait_s"] for endpoint in expert["endpoints"]] == [0, 0]
