"""Random rights, small enough that one often lies within another."""

from __future__ import annotations

from hypothesis import strategies as st

from gateway.settings.access import Grant, Limit

_LETTERS = "ab"
names = st.text(_LETTERS, min_size=1, max_size=4)
patterns = st.lists(st.text(_LETTERS + "*", min_size=1, max_size=4), max_size=3).map(tuple)
ends = st.none() | st.sampled_from([1e10, 2e10, 3e10])


@st.composite
def limits(draw: st.DrawFn) -> tuple[Limit, ...]:
    chosen: dict[tuple[str, str], Limit] = {}
    for _ in range(draw(st.integers(0, 3))):
        unit = draw(st.sampled_from(["requests", "tokens", "usd"]))
        per = draw(st.sampled_from(["minute", "day"] if unit != "usd" else ["day", "total"]))
        chosen[unit, per] = Limit.model_validate({unit: draw(st.integers(1, 3)), "per": per})
    return tuple(chosen.values())


@st.composite
def grants(draw: st.DrawFn) -> Grant:
    said = {
        "role": draw(st.sampled_from(["caller", "manager", "admin"])),
        "project": draw(st.sampled_from(["red", "blue"])),
        "routes": draw(patterns),
        "experts": draw(patterns),
        "policies": draw(patterns),
        "expires_at": draw(ends),
        "limits": draw(limits()),
        "session_limits": draw(limits()),
    }
    left_out = draw(st.sets(st.sampled_from(sorted(said))))
    return Grant.model_validate({k: v for k, v in said.items() if k not in left_out})
