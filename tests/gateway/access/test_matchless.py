"""Patterns of keys that stand for nothing are told, and refused nowhere."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.matchless import matchless
from gateway.settings.access import Grant
from gateway.settings.root import Settings

POOL = Settings.model_validate(
    {
        "experts": [
            {"id": name, "base_url": "http://127.0.0.1:1/v1"} for name in ("small-1", "large")
        ],
        "aliases": {"tiny": "small-1"},
        "routing": {"policies": {"night": {"cost_weight": 0.5}}},
    }
)


def told(**rights: Any) -> list[str]:
    return [str(found) for found in matchless(Grant.model_validate(rights), POOL)]


@pytest.mark.parametrize(
    "rights",
    [
        {},
        {"experts": ["*"]},
        {"experts": ["small-*", "large", "*ar*"]},
        {"policies": ["cheap", "bal*", "night"]},
        {"routes": ["/v1/*", "/v1/chat/completions", "/v1/models/openai/a", "/v1/models/s*"]},
        {"routes": ["*completions", "/v1/responses/*", "/admin/keys/team/rotate"]},
    ],
)
def test_what_stands_for_something_is_not_worth_a_word(rights: Any) -> None:
    assert told(**rights) == []


@pytest.mark.parametrize(
    ("rights", "words"),
    [
        ({"experts": ["smal-1"]}, ["experts[0]", "'smal-1'", "did you mean `small-1`"]),
        ({"experts": ["large", "gpt-*"]}, ["experts[1]", "'gpt-*'", "known here: small-1, large"]),
        ({"experts": ["tiny"]}, ["experts[0]", "alias of `small-1`"]),
        ({"experts": ["Large"]}, ["experts[0]", "did you mean `large`"]),
        ({"policies": ["chep"]}, ["policies[0]", "did you mean `cheap`"]),
        ({"policies": ["day*"]}, ["policies[0]", "no policy"]),
        ({"routes": ["/v1/chat/completion"]}, ["did you mean `/v1/chat/completions`"]),
        ({"routes": ["v1/*"]}, ["routes[0]", "no path"]),
        ({"routes": ["/v2/*"]}, ["routes[0]", "'/v2/*'"]),
    ],
)
def test_what_stands_for_nothing_is_named(rights: Any, words: list[str]) -> None:
    (said,) = told(**rights)
    assert all(word in said for word in words), said
