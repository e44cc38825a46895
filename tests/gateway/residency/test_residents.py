"""What one process knows of the engines, by itself."""

from __future__ import annotations

from experts.engines.states import EngineStatus
from experts.residency.steward import Door
from gateway.residency.residents import Residents
from gateway.residency.words import News

AWAKE = Door(True, EngineStatus.READY.value, 0, "", 0.0, 0.0)


def test_a_call_leaves_the_engine_that_it_entered_wherever_its_expert_lives_by_then() -> None:
    residents = Residents({"law": "one"})
    residents.heard(News(1, {"one": AWAKE, "two": AWAKE}))
    first = residents.try_enter("law")
    # Two reloads: an adapter goes, and comes again on another engine.
    residents.move_in({})
    residents.move_in({"law": "two"})
    second = residents.try_enter("law")
    assert residents.report()[0].calls == {"one": 1, "two": 1}
    assert (first, second) == ("one", "two")
    residents.leave("one")
    assert residents.report()[0].calls == {"two": 1}
