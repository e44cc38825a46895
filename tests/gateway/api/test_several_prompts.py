"""Several prompts in one request: each is a request of its own, and all of them end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from experts.fakes.provider import FakeProvider


@pytest.mark.parametrize("stream", [False, True])
def test_prompts_that_fail_before_anybody_is_asked_are_over(
    serve: Callable[..., Any], remote: Callable[..., Any], provider: FakeProvider, stream: bool
) -> None:
    served = serve({"small": remote("small", provider.url)})
    body = {"model": "nobody", "prompt": ["one", "two", "three"], "stream": stream}
    assert served.client.post("/v1/completions", json=body).status_code == 404
    assert served.gateway.telemetry.metrics.in_flight == 0
