"""An endpoint with an expert of either wire, and the anthropic SDK at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import pytest

from experts.base import Expert
from experts.cards import ExpertCard, Prices
from experts.fakes.anthropic import FakeAnthropic, Message, fake_anthropic
from experts.fakes.provider import FakeProvider, Reply
from experts.http.anthropic import AnthropicExpert

Serve = Callable[..., Any]
Remote = Callable[..., Expert]
KEY = "team-key-1"


@pytest.fixture
def claude() -> Iterator[FakeAnthropic]:
    with fake_anthropic() as running:
        yield running


@pytest.fixture
def served(serve: Serve, remote: Remote, provider: FakeProvider, claude: FakeAnthropic) -> Any:
    provider.otherwise = Reply("The capital is Lima.")
    claude.otherwise = Message(({"type": "text", "text": "The capital is Lima."},))
    card = ExpertCard("claude", prices=Prices(3, 15, cache_read=0.3, cache_write=3.75))
    experts = {
        "small": remote("small", provider.url),
        "claude": AnthropicExpert(card, claude.url, "claude-x", api_key="upstream-key"),
    }
    return serve(experts, keys=[{"name": "team", "key": KEY}])


@pytest.fixture
def client(served: Any) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=served.url, api_key=KEY, max_retries=0) as made:
        yield made
