"""What lies within what: patterns, limits, whole grants."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.grants import covers, excess, inherited, matches
from gateway.settings.access import Grant, Limit
from tests.gateway.access.strategies import grants, limits, names, patterns


@given(patterns, patterns, names)
def test_a_covered_pattern_stands_for_nothing_that_the_wider_one_does_not(
    wide: tuple[str, ...], narrow: tuple[str, ...], name: str
) -> None:
    if covers(wide, narrow) and matches(narrow, name):
        assert matches(wide, name)


@pytest.mark.parametrize(
    ("wide", "narrow", "within"),
    [
        ("*", "*", True),
        ("*", "gpt-*", True),
        ("gpt-*", "gpt-4o", True),
        ("gpt-*", "gpt-4*", True),
        ("gpt-*", "*", False),
        ("gpt-*", "*gpt-*", False),
        ("gpt-4o", "gpt-*", False),
        ("/v1/*", "/admin/*", False),
        ("a*c", "a*b*c", True),
        ("a*b*c", "a*c", False),
    ],
)
def test_which_pattern_covers_which(wide: str, narrow: str, within: bool) -> None:
    assert covers((wide,), (narrow,)) is within


def test_matching_a_hostile_pattern_takes_no_time() -> None:
    assert not matches(("*a" * 90 + "b",), "a" * 200)


@given(grants(), grants(), names)
def test_rights_within_another_allow_nothing_more(child: Grant, giver: Grant, name: str) -> None:
    child = inherited(child, giver)
    if excess(child, giver) is not None:
        return
    for field in ("routes", "experts", "policies"):
        if matches(getattr(child, field), name):
            assert matches(getattr(giver, field), name)
    assert ["caller", "manager", "admin"].index(child.role) <= ["caller", "manager", "admin"].index(
        giver.role
    )
    assert giver.role == "admin" or child.project == giver.project
    assert (child.expires_at or float("inf")) <= (giver.expires_at or float("inf"))
    for field in ("limits", "session_limits"):
        amounts = {(lim.unit, lim.per): lim.amount for lim in getattr(child, field)}
        for limit in getattr(giver, field):
            assert amounts[limit.unit, limit.per] <= limit.amount


@given(grants())
def test_what_names_nothing_gets_what_the_giver_has(giver: Grant) -> None:
    child = inherited(Grant(), giver)
    assert excess(child, giver) is None
    assert child.role == "caller"
    assert (child.project, child.experts) == (giver.project, giver.experts)


@given(grants(), st.sampled_from(["role", "project", "expires_at", "limits"]))
def test_more_than_the_giver_has_is_named(giver: Grant, field: str) -> None:
    more = {
        "role": "admin",
        "project": "green",
        "expires_at": 4e10,
        "limits": [Limit(requests=9, per="minute")],
    }
    has = {
        "role": "manager",
        "project": "red",
        "expires_at": 1e10,
        "limits": (Limit(requests=3, per="minute"),),
    }
    giver = giver.model_copy(update=has)
    child = inherited(Grant.model_validate({field: more[field]}), giver)
    assert excess(child, giver) == field


def test_without_a_limit_is_more_than_with_one() -> None:
    limited = (Limit(requests=3, per="minute"),)
    for field in ("limits", "session_limits"):
        giver = Grant.model_validate({field: limited})
        assert excess(Grant(), giver) == field
        assert (
            excess(Grant.model_validate({field: [Limit(requests=3, per="hour")]}), giver) == field
        )
        assert excess(giver, giver) is None


@given(limits())
def test_a_limit_says_its_amount_in_whole_units(given_limits: tuple[Limit, ...]) -> None:
    for limit in given_limits:
        said = limit.requests or limit.tokens or (limit.usd or 0) * 1e9
        assert limit.amount == said


@pytest.mark.parametrize(
    "said",
    [
        {"per": "minute"},
        {"requests": 1, "tokens": 1, "per": "minute"},
        {"requests": 1, "per": "month"},
        {"requests": 0, "per": "minute"},
        {"usd": 0, "per": "day"},
        {"usd": 1, "per": "fortnight"},
    ],
    ids=str,
)
def test_a_limit_that_means_nothing_is_refused(said: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Limit.model_validate(said)
