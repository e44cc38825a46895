"""An expert that was named is decided on without estimates, and as an untrained router would."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.cards import ExpertCard, Prices
from experts.messages import ChatRequest, Message
from routers.eligible import Constraints
from routers.errors import NoEligibleExpertError
from routers.explicit import explicit_decision
from routers.records import Candidates, Decision, Preference
from routers.router import untrained_router

ABILITIES = frozenset({"text", "image", "audio", "file"})
COUNTS = st.none() | st.integers(1, 5000)
CARDS = st.builds(
    ExpertCard,
    st.just("a"),
    prices=st.none() | st.builds(Prices, st.floats(0, 100), st.floats(0, 100)),
    context_tokens=COUNTS,
    max_output_tokens=COUNTS,
    tools=st.booleans(),
    quality_prior=st.floats(0, 1),
)
CONSTRAINTS = st.builds(
    Constraints,
    allow=st.none() | st.sets(st.sampled_from("ab")).map(frozenset),
    max_cost_usd=st.none() | st.floats(0, 0.1),
    max_latency_s=st.none() | st.floats(0, 10),
)
PARAMS = st.fixed_dictionaries({}, optional={"n": st.integers(1, 3), "tools": st.just([{"f": 1}])})
REQUESTS = st.builds(
    ChatRequest, st.text().map(lambda text: (Message("user", text),)), COUNTS, params=PARAMS
)


def unlimited(card: ExpertCard) -> ExpertCard:
    return replace(
        card, tools=True, structured_output=True, modalities=ABILITIES, context_tokens=None
    )


def routed(request: ChatRequest, card: ExpertCard, constraints: Constraints) -> Decision:
    return untrained_router("explicit").decide(
        request,
        [unlimited(card)],
        preference=Preference(),
        policy_name="explicit",
        constraints=constraints,
        unhealthy={},
        uniform=0.0,
    )


def result_of(decide: Callable[[], Decision]) -> tuple[Decision | None, Mapping[str, str]]:
    try:
        return decide(), {}
    except NoEligibleExpertError as error:
        return None, error.reasons


@given(st.lists(REQUESTS, min_size=1, max_size=3), CARDS, CONSTRAINTS)
def test_it_is_what_an_untrained_router_decides_for_an_expert_that_can_do_everything(
    requests: list[ChatRequest], card: ExpertCard, constraints: Constraints
) -> None:
    # The same card again and again, for part of what is said of it is kept.
    for request in requests:
        compare(request, card, constraints)


def compare(request: ChatRequest, card: ExpertCard, constraints: Constraints) -> None:
    found, reasons = result_of(lambda: explicit_decision(request, card, constraints))
    expected, same_reasons = result_of(lambda: routed(request, card, constraints))
    assert reasons == same_reasons
    if found is None or expected is None:
        assert found is expected
        return
    for field in fields(Decision):
        if field.name != "candidates":
            assert getattr(found, field.name) == getattr(expected, field.name), field.name
    for field in fields(Candidates):
        np.testing.assert_array_equal(
            getattr(found.candidates, field.name), getattr(expected.candidates, field.name)
        )


def test_what_its_card_says_it_cannot_do_does_not_count() -> None:
    request = ChatRequest(
        (Message("user", "x" * 4000),),
        params={"tools": [{"f": 1}], "response_format": {"type": "json_object"}},
    )
    card = ExpertCard("a", context_tokens=10)
    assert explicit_decision(request, card, Constraints()).expert == "a"


def test_a_price_ceiling_is_kept_whoever_was_named() -> None:
    card = ExpertCard("a", prices=Prices(1.0, 10.0), max_output_tokens=1000)
    request = ChatRequest((Message("user", "hi"),))
    with pytest.raises(NoEligibleExpertError, match=r"may cost \$0.01, the ceiling is \$0.001"):
        explicit_decision(request, card, Constraints(max_cost_usd=0.001))
