"""What clients wish for in a body or in headers: read alike, refused in plain words."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.ask import Wishes, parse_wishes
from gateway.errors import ApiError


@pytest.mark.parametrize(
    ("name", "header", "wished"),
    [
        ("experts", "small, large", ("small", "large")),
        ("experts", '["small", "large"]', ("small", "large")),
        ("tags", "team=a, stage=b=c", {"team": "a", "stage": "b=c"}),
        ("prefer", '{"cost": 0.5}', {"cost": 0.5}),
        ("max-cost-usd", "0.5", 0.5),
        ("only-local", "true", True),
        ("check", '{"kind": "numeric", "answer": 42}', {"kind": "numeric", "answer": 42}),
    ],
)
def test_a_header_says_what_a_body_would(name: str, header: str, wished: Any) -> None:
    by_header = parse_wishes(None, {f"x-pointsman-{name}": header})
    assert by_header == Wishes(**{name.replace("-", "_"): wished})


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"max_cost": 1}, "pointsman.max_cost: is no wish; did you mean `max_cost_usd`?"),
        ({"experts": "small"}, "pointsman.experts: must be a list"),
        ({"experts": []}, "pointsman.experts: must have at least 1 of them"),
        ({"policy": ""}, "pointsman.policy: must have at least 1 characters"),
        ({"max_cost_usd": 0}, "pointsman.max_cost_usd: must be > 0 (got 0)"),
        ({"max_cost_usd": True}, "pointsman.max_cost_usd: must be a number (got True)"),
        ({"min_quality": "high"}, "pointsman.min_quality: must be a number"),
        ({"tags": ["a"]}, "pointsman.tags: must hold keys and values"),
        ({"tags": {"a": 1}}, "pointsman.tags.a: must be text; put it in quotes"),
        ({"only_local": "maybe"}, "pointsman.only_local: must be true or false"),
        ({"released_after": "2026-13-01"}, "pointsman.released_after: must be a date like 2026-"),
        ({"prefer": {"speed": 1}}, "pointsman.prefer.speed: must be 'cost', 'latency', 'size'"),
        ({"check": {"kind": "x"}}, "pointsman.check: check field 'kind': must be one of"),
    ],
)
def test_a_wrong_wish_is_refused_in_words_of_ours(wish: dict[str, Any], message: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_wishes(wish, {})
    assert caught.value.message.startswith(message)
    assert caught.value.param == message.partition(": ")[0]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max-cost-usd", "nan", "pointsman.max_cost_usd: must be a finite number"),
        ("tags", "a", "pointsman.tags: must be like a=1,b=2"),
        ("prefer", "", "pointsman.prefer: must be like a=1,b=2"),
        ("prefer", "{cost: 1}", "pointsman.prefer: is no JSON"),
    ],
)
def test_a_wrong_wish_in_a_header_names_the_header(name: str, value: str, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_wishes({"session": "s"}, {f"x-pointsman-{name}": value})
    assert caught.value.message.startswith(message)
    assert caught.value.message.endswith(f"(in the header `x-pointsman-{name}`)")
