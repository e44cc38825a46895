"""What may be learned from, and judged by, once the world has moved."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import create_engine

from eval.drift.residuals import Residuals
from eval.ope.asked import LoggedWishes
from eval.ope.logged import Logged
from eval.promotion.evidence import Material
from gateway.retrain.watch import drift, without_forgotten
from gateway.settings.retrain import DriftSettings
from routers.records import OutcomeTable, Preference
from tests.gateway.logged_world import EXPERTS, Questions

COUNT = 12
AT_N = np.arange(COUNT, dtype=np.float64)


def material(collected: OutcomeTable | None = None) -> Material:
    rng = np.random.default_rng(0)
    logged = Logged.of(Questions.draw(COUNT, rng).table(rng), np.full((COUNT, 3), 1 / 3))
    wishes = LoggedWishes([Preference()] * COUNT)
    return Material(logged, wishes, collected, dict.fromkeys(EXPERTS), np.ones(COUNT, dtype=bool))


def test_what_was_decided_before_teaches_and_is_not_judged_by() -> None:
    found = without_forgotten(material(), AT_N, {}, judged=5.0)
    assert found.logged.table.query_ids == tuple(f"q{row}" for row in range(5, COUNT))
    assert len(found.asked) == COUNT - 5
    assert found.collected is not None
    assert found.collected.query_ids == tuple(f"q{row}" for row in range(5))
    assert set(found.training().query_ids) == {f"q{row}" for row in range(COUNT)}


def test_beside_what_was_collected() -> None:
    rng = np.random.default_rng(1)
    asked = Questions.draw(3, rng).table(rng)
    before = OutcomeTable(("c0", "c1", "c2"), asked.prompts, asked.tasks, ("c0", "c1", "c2"),
                          *(getattr(asked, name) for name in _COLUMNS))  # fmt: skip
    found = without_forgotten(material(before), AT_N, {}, judged=5.0).collected
    assert found is not None
    assert len(found) == 3 + 5


def test_scores_of_who_changed_are_forgotten_and_those_of_others_are_not() -> None:
    found = without_forgotten(material(), AT_N, {"lawyer": 8.0}, judged=0.0)
    seen_NA = ~np.isnan(found.logged.table.score_NA)
    lawyer = EXPERTS.index("lawyer")
    assert seen_NA[:, lawyer].tolist() == [row >= 8 for row in range(COUNT)]
    assert np.delete(seen_NA, lawyer, axis=1).all()
    assert found.collected is None


def stream(expert: str, count: int, every: int, fell: float) -> list[tuple[str, str, float]]:
    """Scores as expected, but for those of every so many: of a task, and from half-way lower."""
    return [
        (expert, "odd" if row % every == 0 else "even",
         0.8 - fell * (row % every == 0 and row >= count / 2))
        for row in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("told", "forgotten"),
    [
        (stream("whole", 200, 1, 0.6) + stream("partly", 2000, 10, 0.6), ("whole",)),
        (stream("partly", 2000, 10, 0.6), ("partly",)),
        (stream("steady", 2000, 10, 0.0), None),
    ],
    ids=["everywhere", "on a task", "nowhere"],
)
def test_whose_scores_say_nothing_any_more(
    monkeypatch: pytest.MonkeyPatch,
    told: list[tuple[str, str, float]],
    forgotten: tuple[str, ...] | None,
) -> None:
    """Who changed on all requests is forgotten; where nobody did, who changed on a task."""
    experts, slices, scores = zip(*told, strict=True)
    score_N = np.array(scores)
    at_N = np.arange(len(told), dtype=np.float64)
    seen = Residuals(experts, slices, np.full(len(told), 0.8), score_N, at_N)
    monkeypatch.setattr("gateway.retrain.watch.residuals", lambda *_: seen)
    engine = create_engine("sqlite://")
    found = drift(engine, "default", ["v"], 0.0, DriftSettings())
    assert (None if found is None else found.experts) == forgotten


_COLUMNS = (
    "experts", "score_NA", "prompt_tokens_NA", "output_tokens_NA", "cost_usd_NA", "latency_s_NA",
    "propensity_NA",
)  # fmt: skip
