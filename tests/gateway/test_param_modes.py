"""Unknown fields on their way through the gateway: passed, refused or dropped, by expert."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from experts.base import Expert
from experts.fakes.provider import FakeProvider

Serve = Callable[..., Any]
Remote = Callable[..., Expert]


def test_each_mode_does_what_it_says(serve: Serve, remote: Remote, provider: FakeProvider) -> None:
    served = serve(
        {
            "open": remote("open", provider.url),
            "strict": remote("strict", provider.url, params="strict"),
            "drops": remote("drops", provider.url, params="drop"),
        }
    )
    passed = served.ask("open", top_k=3)
    assert provider.bodies[-1]["top_k"] == 3
    assert "x-pointsman-dropped-params" not in passed.headers
    refused = served.ask("strict", top_k=3)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "top_k"
    assert len(provider.bodies) == 1
    dropped = served.ask("drops", top_k=3, temperature=0)
    assert dropped.headers["x-pointsman-dropped-params"] == "top_k"
    assert "top_k" not in provider.bodies[-1]
    assert provider.bodies[-1]["temperature"] == 0
    streamed = served.ask("drops", top_k=3, stream=True)
    assert streamed.headers["x-pointsman-dropped-params"] == "top_k"


def test_auto_passes_a_strict_expert_over(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    served = serve({"strict": remote("strict", provider.url, params="strict")})
    assert served.ask("auto").status_code == 200
    refused = served.ask("auto", top_k=3)
    assert refused.status_code == 400
    assert "strict: does not take top_k" in refused.json()["error"]["message"]
