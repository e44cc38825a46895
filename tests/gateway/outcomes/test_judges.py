"""Judges of pairs and of several objectives, asked through the gateway."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eval.judging.fitted import FittedGate
from experts.cards import ExpertCard, Prices
from experts.fakes.scripted import ScriptedExpert, says
from experts.messages import Usage
from routers.encoders.lexical import TfidfSvdEncoder
from tests.eval.judging.test_fitted import OBJECTIVES, preferred
from tests.gateway.raw import until

USED = Usage(input=30, output=10)
COST = 50_000
Serve = Callable[..., Any]
SHADOW = {"share": 1.0, "budget_usd": 100.0, "experts": ["other"]}


def expert(name: str, *said: str, prior: float = 0.5) -> ScriptedExpert:
    card = ExpertCard(
        name, prices=Prices(1.0, 2.0), quality_prior=prior, tools=True, max_output_tokens=99
    )
    return ScriptedExpert(card, *(says(text, USED) for text in said))


def comparing(serve: Serve, judge: ScriptedExpert, **settings: Any) -> Any:
    experts = {
        "best": expert("best", "delivered", prior=0.9),
        "other": expert("other", "from the shadow"),
        "judge": judge,
    }
    duel = {"name": "duel", "expert": "judge", "how": "pair", "rate": 1, "budget_usd": 1}
    return serve(experts, judges=[{**duel, **settings}], shadow=SHADOW, routing={"epsilon": 0.0})


def record(served: Any, answer: Any, ready: Callable[[Any], bool]) -> Any:
    found: list[Any] = []

    def enough() -> bool:
        found[:] = [served.record(answer)]
        return ready(found[0])

    until(enough)
    return found[0]


def pair_scores(found: Any) -> tuple[list[tuple[str, str, float]], list[tuple[str, str, float]]]:
    """Of the shadow's answer, and of the delivered one."""

    def plain(outcomes: Any) -> list[tuple[str, str, float]]:
        return [(each["objective"], each["source"], each["score"]) for each in outcomes]

    shadows = [outcome for call in found["shadows"] for outcome in call["outcomes"]]
    return plain(shadows), plain(found["outcomes"])


@pytest.mark.parametrize(
    ("words", "score"),
    [
        (("BETTER: A", "BETTER: B"), 1.0),
        (("BETTER: B", "BETTER: A"), 0.0),
        (("BETTER: A", "BETTER: A"), 0.5),
    ],
    ids=["the shadow's", "the delivered", "whatever stands first"],
)
def test_a_pair_is_judged_in_both_orders(
    serve: Serve, words: tuple[str, str], score: float
) -> None:
    judge = expert("judge", *words)
    served = comparing(serve, judge)
    answer = served.ask(text="2+2?", pointsman={"policy": "best"})
    found = record(served, answer, lambda each: bool(each["outcomes"]))
    shadow, delivered = pair_scores(found)
    assert shadow == [("preferred", "judge:duel", score)]
    assert delivered == [("preferred", "judge:duel", 1 - score)]
    first, second = (request.messages[1].text for request in judge.requests)
    assert first.index("from the shadow") < first.index("delivered")
    assert second.index("delivered") < second.index("from the shadow")
    # Two questions, booked by themselves; the request costs what its answer did.
    assert found["result"]["cost_nanousd"] == COST
    assert served.totals()["requests"] == 3
    assert served.verified().faults == ()


def test_a_verdict_that_is_none_scores_nobody(serve: Serve) -> None:
    judge = expert("judge", "BETTER: A", "I can't say")
    served = comparing(serve, judge)
    answer = served.ask(pointsman={"policy": "best"})
    until(lambda: 'judgements_total{result="unread"} 1' in served.client.get("/metrics").text)
    assert pair_scores(served.record(answer)) == ([], [])
    assert len(judge.calls) == 2


def test_a_judge_of_pairs_keeps_its_budget(serve: Serve) -> None:
    judge = expert("judge", "BETTER: A", "BETTER: B")
    served = comparing(serve, judge, budget_usd=0.000001)
    answer = served.ask(pointsman={"policy": "best"})
    until(lambda: 'judgements_total{result="refused"} 1' in served.client.get("/metrics").text)
    assert judge.calls == []
    assert pair_scores(served.record(answer)) == ([], [])


def graded(serve: Serve, word: str, tmp_path: Path | None = None) -> Any:
    experts = {"one": expert("one", "Dear customer"), "judge": expert("judge", word)}
    house = {
        "name": "house", "expert": "judge", "rate": 1, "budget_usd": 1,
        "objectives": {name: f"Is {name}." for name in OBJECTIVES},
    }  # fmt: skip
    sections = {"data_dir": str(tmp_path)} if tmp_path else {}
    return serve(experts, judges=[house], **sections)


def test_every_objective_is_booked_for_itself(serve: Serve) -> None:
    served = graded(serve, "correct: 1\npolite: 0.5\nshort: 0")
    answer = served.ask("one")
    found = record(served, answer, lambda each: len(each["outcomes"]) >= 3)
    assert sorted((each["objective"], each["score"]) for each in found["outcomes"]) == [
        ("correct", 1.0), ("polite", 0.5), ("short", 0.0),
    ]  # fmt: skip
    # Without a gate nobody has said what they are worth together.
    assert served.totals()["mean_score"] is None


def test_a_fitted_gate_makes_one_score_of_them(serve: Serve, tmp_path: Path) -> None:
    gate = FittedGate.fit(preferred(300, 1)[0], TfidfSvdEncoder(), seed=0)
    gate.save(tmp_path / "judges" / "house.safetensors")
    served = graded(serve, "correct: 1\npolite: 0\nshort: 0", tmp_path)
    answer = served.ask("one", "solve equation proof 7")
    found = record(served, answer, lambda each: len(each["outcomes"]) >= 4)
    (quality,) = [each for each in found["outcomes"] if each["objective"] == "quality"]
    assert quality["source"] == "judge:house"
    # What people want of a proof is that it is correct.
    assert quality["score"] > 0.6
    assert "correct" in quality["comment"]
    letter = served.ask("one", "apologise customer letter 7")
    found = record(served, letter, lambda each: len(each["outcomes"]) >= 4)
    (quality,) = [each for each in found["outcomes"] if each["objective"] == "quality"]
    assert quality["score"] < 0.4
