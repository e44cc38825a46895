"""An expert that names its provider says the rest only where it wants it otherwise."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from gateway.pool.pool import context_of, prices_of
from gateway.settings.experts import AnthropicSettings, UrlExpert
from gateway.settings.faults import FaultyConfigError
from gateway.settings.load import read_configuration
from gateway.settings.providers import PROVIDERS, known
from gateway.settings.upstream import url_fault

NOW = datetime(2026, 11, 26, tzinfo=UTC)


def read(**entry: Any) -> UrlExpert:
    text = yaml.safe_dump({"experts": [{"id": "a", **entry}]})
    (expert,) = read_configuration(text, "c.yaml").settings.experts
    assert isinstance(expert, UrlExpert)
    return expert


def fault(**entry: Any) -> str:
    with pytest.raises(FaultyConfigError) as caught:
        read(**entry)
    return str(caught.value)


PLACED = {"azure": {"resource": "my-team"}, "bedrock": {"region": "eu-central-1"}}
ELSEWHERE = {"vllm": {"base_url": "http://127.0.0.1:8001/v1"}}


@pytest.mark.parametrize("provider", known())
def test_every_provider_is_reached_by_its_name(provider: str) -> None:
    expert = read(provider=provider, **PLACED.get(provider, {}), **ELSEWHERE.get(provider, {}))
    about = PROVIDERS[provider]
    assert expert.kind == about.kind  # type: ignore[attr-defined]
    assert all(url_fault(url, allow_link_local=False) is None for url in expert.urls)
    assert expert.api_key == (f"env:{about.key}" if about.key else None)
    assert (expert.tools, expert.local) == (about.hosted or None, about.local)


def test_urls_with_a_place_in_them_are_made_from_it() -> None:
    assert read(provider="azure", resource="my-team").urls == (
        "https://my-team.openai.azure.com/openai/v1",
    )
    assert read(provider="bedrock", region="eu-central-1").urls == (
        "https://bedrock-runtime.eu-central-1.amazonaws.com/openai/v1",
    )


def test_prices_and_the_window_come_from_the_catalogue_with_its_version() -> None:
    expert = read(provider="anthropic", model="claude-sonnet-4-5")
    assert isinstance(expert, AnthropicSettings)
    prices = prices_of(expert, NOW)
    assert prices is not None
    assert (prices.input, prices.output) == (3.0, 15.0)
    assert "as of 2026-11-26: anthropic/claude-sonnet-4-5" in prices.source
    window = context_of(expert, NOW)
    assert window is not None
    assert window >= 200_000


def test_what_an_entry_says_stands() -> None:
    expert = read(
        provider="openai",
        model="gpt-4o",
        api_key="env:OTHER",
        tools=False,
        context_tokens=1000,
        max_tokens_field="max_tokens",
        prices={"input": 1, "output": 2},
    )
    assert (expert.api_key, expert.tools, expert.catalogue) == ("env:OTHER", False, None)
    assert context_of(expert, NOW) == 1000
    assert expert.model_dump()["max_tokens_field"] == "max_tokens"


def test_a_providers_key_goes_to_no_other_url() -> None:
    expert = read(provider="openai", base_url="https://elsewhere.example/v1")
    assert expert.api_key is None
    assert expert.urls == ("https://elsewhere.example/v1",)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"provider": "opena"}, "is no provider known here; did you mean `openai`?"),
        ({"provider": "azure"}, "azure needs `resource`, or `base_url`"),
        ({"provider": "bedrock"}, "bedrock needs `region`, or `base_url`"),
        ({"provider": "bedrock", "region": "x.evil.example/"}, "letters, digits and hyphens"),
        ({"provider": "openai", "region": "eu"}, "means nothing to openai"),
        ({"provider": "vllm"}, "vllm has no URL of its own: give `base_url`"),
    ],
)
def test_a_wrong_entry_is_told_what_is_wrong(entry: dict[str, Any], said: str) -> None:
    told = fault(**entry)
    assert said in told
    assert told.startswith("c.yaml:")
