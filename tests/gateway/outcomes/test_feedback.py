"""Scores: one, many at once, late, again; each answered for itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from experts.cards import ExpertCard, Prices
from experts.fakes.scripted import ScriptedExpert, says
from experts.messages import Usage

KEYS = [{"name": name, "key": f"{name}-key-1"} for name in ("red", "blue")]
RED, BLUE = ({"authorization": f"Bearer {key['key']}"} for key in KEYS)


@pytest.fixture
def served(serve: Callable[..., Any]) -> Any:
    card = ExpertCard("one", prices=Prices(1, 2))
    return serve({"one": ScriptedExpert(card, says("42", Usage(input=3, output=1)))}, keys=KEYS)


def asked(served: Any, headers: dict[str, str]) -> str:
    body = {"model": "one", "messages": [{"role": "user", "content": "Hi"}]}
    answer = served.client.post("/v1/chat/completions", json=body, headers=headers)
    return str(answer.headers["x-pointsman-decision-id"])


def sent(served: Any, body: Any, headers: dict[str, str] = RED) -> Any:
    return served.client.post("/v1/feedback", json=body, headers=headers)


def outcomes(served: Any, decision_id: str) -> list[dict[str, Any]]:
    found = served.client.get(f"/v1/decisions/{decision_id}", headers=RED).json()["outcomes"]
    return list(found)


def test_an_event_sent_again_is_one_row(served: Any) -> None:
    decision_id = asked(served, RED)
    body = {"decision_id": decision_id, "score": 0.5, "event_id": "e1"}
    first, again = sent(served, body).json(), sent(served, body).json()
    assert (first["repeated"], again["repeated"]) == (False, True)
    assert first["outcome_id"] == again["outcome_id"]
    assert [each["score"] for each in outcomes(served, decision_id)] == [0.5]


def test_an_event_id_of_another_score_is_refused(served: Any) -> None:
    decision_id = asked(served, RED)
    assert sent(served, {"decision_id": decision_id, "score": 0, "event_id": "e1"}).is_success
    other = sent(served, {"decision_id": decision_id, "score": 1, "event_id": "e1"})
    assert (other.status_code, other.json()["error"]["code"]) == (409, "event_id_taken")
    assert [each["score"] for each in outcomes(served, decision_id)] == [0]


def test_event_ids_are_each_keys_own(served: Any) -> None:
    body = {"score": 1, "event_id": "e1"}
    mine = sent(served, {**body, "decision_id": asked(served, RED)})
    theirs = sent(served, {**body, "decision_id": asked(served, BLUE)}, BLUE)
    assert mine.json()["outcome_id"] != theirs.json()["outcome_id"]
    assert theirs.json()["repeated"] is False


def test_each_score_of_a_batch_is_answered_for_itself(served: Any) -> None:
    mine, theirs = asked(served, RED), asked(served, BLUE)
    batch = [
        {"decision_id": mine, "score": 0.25, "event_id": "e1"},
        {"decision_id": theirs, "score": 1},
        {"decision_id": mine, "score": 7},
        "nonsense",
        {"metric_name": "tone", "value": 0.75, "inference_id": mine},
        {"decision_id": mine, "score": 0.25, "event_id": "e1"},
    ]
    said = sent(served, batch).json()
    assert (said["booked"], said["refused"]) == (3, 3)
    items = said["items"]
    assert [each["index"] for each in items] == [0, 1, 2, 3, 4, 5]
    assert ["error" in each for each in items] == [False, True, True, True, False, False]
    assert [items[n]["error"]["param"] for n in (1, 2, 3)] == ["decision_id", "score", None]
    assert items[5]["repeated"] is True
    booked = [(each["objective"], each["score"]) for each in outcomes(served, mine)]
    assert sorted(booked) == [("quality", 0.25), ("tone", 0.75)]
    assert served.verified().faults == ()


@pytest.mark.parametrize("size", [0, 1001])
def test_a_batch_has_its_size(served: Any, size: int) -> None:
    answer = sent(served, [{"decision_id": "dec-x", "score": 1}] * size)
    assert (answer.status_code, "1 to 1000" in answer.text) == (400, True)


@pytest.mark.parametrize("source", ["judge:house", "implicit"])
def test_nobody_signs_as_the_gateway(served: Any, source: str) -> None:
    body = {"decision_id": asked(served, RED), "score": 1, "source": source}
    answer = sent(served, body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "source")


def test_other_objectives_are_no_quality(served: Any) -> None:
    decision_id = asked(served, RED)
    for objective, score in (("quality", 0.75), ("regenerated", 0)):
        sent(served, {"decision_id": decision_id, "score": score, "objective": objective})
    totals = served.totals()
    assert (totals["outcomes"], totals["mean_score"]) == (1, 0.75)
