"""How good a draft seems, and what follows from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.calculator.calculator import CalculatorExpert
from experts.cards import ExpertCard, Prices
from experts.compose.alone import call_alone
from experts.compose.base import ChildRequest, ask
from experts.compose.deferral.agreement import Agreement
from experts.compose.deferral.base import Action, Signal, SignalResult
from experts.compose.deferral.confidence import Confidence, certainty, confidence, dispersion
from experts.compose.deferral.confidence import margin as margin_of
from experts.compose.deferral.gates import Bernoulli, Bins, Threshold
from experts.compose.deferral.self_check import SelfCheck, verdict_of
from experts.compose.deferral.verified import ExactArithmetic, Verified
from experts.fakes.scripted import Script, ScriptedExpert, says
from experts.messages import ChatRequest, Delta, Finish, Message, Usage

CALCULATOR = ExactArithmetic(CalculatorExpert(ExpertCard("calculator")))
ASKED = ChatRequest((Message("user", "What is 6 * 7?"),))


def expert(*scripts: Script) -> ScriptedExpert:
    return ScriptedExpert(ExpertCard("small", prices=Prices(1, 1)), *scripts)


def measured(signal: Signal, drafter: ScriptedExpert, request: ChatRequest = ASKED) -> SignalResult:
    async def run() -> SignalResult:
        call = call_alone()
        asked = ChildRequest(drafter, signal.asks(request))
        return await signal.measure(request, await ask(call, asked), asked, call)

    return anyio.run(run)


def token(probability: float, *others: float) -> dict[str, Any]:
    told = [{"token": str(i), "logprob": math.log(p)} for i, p in enumerate((probability, *others))]
    return {"token": "0", "logprob": math.log(probability), "top_logprobs": told}


def with_logprobs(*tokens: dict[str, Any]) -> Script:
    return [Delta("42", logprobs={"content": list(tokens)}), Finish("stop"), Usage(1, output=1)]


def test_confidence_asks_for_log_probabilities_and_reads_them() -> None:
    drafter = expert(with_logprobs(token(0.9), token(0.4)))
    score = measured(Confidence("logprob"), drafter).score
    assert score == pytest.approx(math.sqrt(0.9 * 0.4))
    assert drafter.requests[0].params == {"logprobs": True}
    measured(Confidence("margin"), drafter)
    assert drafter.requests[1].params == {"logprobs": True, "top_logprobs": 5}


def test_what_a_provider_does_not_tell_is_unknown() -> None:
    assert measured(Confidence(), expert(says("42"))).score is None


def test_margin_and_entropy_are_those_of_the_alternatives() -> None:
    tokens = [token(0.5, 0.25, 0.25)]
    assert confidence(tokens, "margin") == pytest.approx(0.25)
    entropy = -(0.5 * math.log(0.5) + 2 * 0.25 * math.log(0.25))
    assert confidence(tokens, "entropy") == pytest.approx(1 - entropy / math.log(3))


def test_an_alternative_whose_probability_is_not_told_is_left_out() -> None:
    # llama.cpp has null for a probability of 0.
    known = token(0.6, 0.3)
    nulls: list[dict[str, Any]] = [
        {"token": "x", "logprob": None},
        {"token": "y"},
        {"logprob": math.nan},
    ]
    told = {**known, "top_logprobs": [*known["top_logprobs"], *nulls]}
    for kind in ("margin", "entropy", "dispersion"):
        assert confidence([told], kind) == confidence([known], kind)
    nothing = {**known, "top_logprobs": nulls}
    assert confidence([nothing], "margin") == confidence([token(0.6)], "margin")
    unknown = measured(Confidence(), expert(with_logprobs(*nulls))).score
    assert unknown is None


distributions = st.lists(st.floats(0.01, 1), min_size=2, max_size=8).map(
    lambda weights: [weight / sum(weights) for weight in weights]
)


@given(distributions)
def test_certainty_lies_between_the_even_and_the_certain(probabilities: list[float]) -> None:
    even = [1 / len(probabilities)] * len(probabilities)
    sure = [1.0] + [0.0] * (len(probabilities) - 1)
    for measure in (certainty, dispersion):
        assert measure(even) == pytest.approx(0, abs=1e-9)
        assert measure(sure) == pytest.approx(1)
        # Towards the certain it grows.
        nearer = [0.9 * p + 0.1 * (i == 0) for i, p in enumerate(sorted(probabilities)[::-1])]
        assert measure(nearer) >= measure(probabilities) - 1e-9
    assert margin_of(sure) == 1


def test_agreement_is_the_share_of_what_most_answers_say() -> None:
    drafter = expert(says("41"), says("It is 42."), says("The answer: 42"), says("42"))
    signal = Agreement(samples=4)
    found = measured(signal, drafter, ChatRequest(ASKED.messages, params={"seed": 5}))
    assert found.score == 0.5
    assert found.reply is not None
    assert found.reply.text == "The answer: 42", "the answer of the most, not the draft"
    assert [request.params["seed"] for request in drafter.requests] == [5, 6, 7, 8]
    assert signal.calls == 3


def test_agreement_is_among_all_who_are_asked_and_the_drafts_words_come_first() -> None:
    drafter, program = expert(says("41"), says("42")), expert(says("42"), says("Answer: 42"))
    found = measured(Agreement(samples=2, among=(program,)), drafter)
    assert found.score == 0.75
    assert found.reply is not None
    assert found.reply.text == "42"
    assert [len(each.calls) for each in (drafter, program)] == [2, 2]
    other = expert(says("41"))
    assert measured(Agreement(samples=1, among=(other,)), expert(says("41"))).score == 1


def test_a_model_that_is_checked_by_itself_reads_question_and_draft() -> None:
    verdicts = [says("Hm. Verdict: correct"), says("Verdict: incorrect"), says("I can't tell")]
    drafter = expert(says("42"), *verdicts)
    found = measured(SelfCheck(samples=3), drafter)
    assert found.score == 0.5, "who says neither does not count"
    shown = drafter.requests[1].text
    assert "6 * 7" in shown
    assert "42" in shown
    assert drafter.requests[1].params["temperature"] == 0.7
    judge = expert(says("Verdict: correct"))
    assert measured(SelfCheck(2, verifier=judge), expert(says("42"))).score == 1
    assert len(judge.calls) == 2


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("**Verdict:** Correct", True),
        ("It seems correct, but 7 is wrong. Verdict: incorrect", False),
        ("Yes", True),
        ("the answer is wrong", False),
        ("Verdict: not correct", False),
        ("The proposed answer is not correct.", False),
        ("It isn't wrong", True),
        ("42", None),
    ],
)
def test_verdicts_are_read(text: str, verdict: bool | None) -> None:
    assert verdict_of(text) is verdict


@pytest.mark.parametrize(
    ("question", "answer", "score"),
    [
        ("What is 6 * 7?", "It is 42.", 1),
        ("What is 6 * 7?", "It is 43.", 0),
        ("Tom has 6 boxes of 7.", "6 × 7 = 42, so he has 42.", 1),
        ("Tom has 6 boxes of 7.", "6 × 7 = 45, so he has 45.", 0),
        ("A third of ten?", "10 / 3 = 3.33", 1),
        ("Who was Ada?", "A mathematician.", None),
        ("What is 1 / 0?", "Nothing.", None),
        # Beside the sum stands no number.
        ("Why?", "1 + 1 = 2...3", None),
        ("Why?", "1 + 1 = 4.1.2, and 2 + 2 = 5.", 0),
        ("Why?", "3 + 4 = 6 + 1", None),
        ("Why?", "3 + 4 = 7\n- 1 is left", 1),
        # More than a float holds.
        ("Why?", f"{'9' * 180} * {'9' * 180} = 1", None),
        ("What is 2^1200?", "7", None),
        ("What is 2^1200?", str(2**1200), None),
    ],
)
def test_exact_arithmetic_knows_sums(question: str, answer: str, score: float | None) -> None:
    request = ChatRequest((Message("user", question),))
    assert measured(Verified((CALCULATOR,)), expert(says(answer)), request).score == score


def test_thresholds_accept_defer_and_give_up() -> None:
    gate = Threshold(0.8, hopeless_below=0.2)
    actions = [gate.decide(score).action for score in (0.8, 0.79, 0.2, 0.19)]
    assert actions == [Action.ACCEPT, Action.DEFER, Action.DEFER, Action.HOPELESS]
    with pytest.raises(ValueError, match="hopeless_below"):
        Threshold(0.2, hopeless_below=0.3)


def test_bins_cover_zero_to_one() -> None:
    table = [Action.HOPELESS, Action.DEFER, Action.ACCEPT, Action.ACCEPT]
    gate = Bins(table)
    assert [gate.decide(s).action for s in (0.0, 0.24, 0.25, 0.5, 1.0)] == [
        table[0], table[0], table[1], table[2], table[3],
    ]  # fmt: skip


def draws(values: Sequence[float]) -> Any:
    return iter(values).__next__


def test_chance_accepts_with_the_score_and_says_the_propensity() -> None:
    gate = Bernoulli(draws([0.69, 0.71]))
    assert gate.decide(0.7) == (Action.ACCEPT, 0.7)
    assert gate.decide(0.7) == (Action.DEFER, 1 - 0.7)
    always = Bernoulli(draws([0.05]), floor=0.1)
    assert always.decide(0.0) == (Action.ACCEPT, 0.1), "with a floor nothing is certain"
