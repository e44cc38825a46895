from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from eval.comparison import Recommendation, RouterResult
from eval.metrics.intervals import ClusterBootstrap
from eval.metrics.slices import slices
from eval.replay.operating import Setting
from eval.replay.replay import ReplayedTraffic, always, measure
from eval.verdicts import Rival, headline, judge, recommend
from routers.records import OutcomeTable

MakeTable = Callable[..., OutcomeTable]
COUNT = 400


def judged(
    make_table: MakeTable,
    gained: float,
    lost: float,
    cost: float,
    tasks: Sequence[str] | None = None,
) -> Recommendation:
    """A router that turns some wrong answers right and some right ones wrong."""
    best = np.r_[np.zeros(COUNT // 2), np.ones(COUNT // 2)]
    ours = best.copy()
    ours[: int(gained * COUNT)] = 1
    ours[-int(lost * COUNT) or COUNT :] = 0
    costs = np.tile([1.0, cost], (COUNT, 1))
    table = make_table(np.stack([best, ours], axis=1), costs=costs, tasks=tasks)
    alone, router = (measure(table, always(table, np.full(COUNT, c))) for c in (0, 1))
    bootstrap = ClusterBootstrap(table.groups, seed=0, replicates=400)
    settings = [Setting(0.0, 0, 0.0, 0.0, safe=True)]
    return judge("ours", table, [router], settings, Rival("a", alone), bootstrap)


@pytest.mark.parametrize(
    ("gained", "lost", "cost", "pays", "words"),
    [
        (0.05, 0.0, 0.5, "yes", "is better than always asking a"),
        (0.002, 0.002, 0.5, "yes", "is as good as always asking a"),
        (0.05, 0.04, 0.5, "likely", "is neither clearly better nor clearly worse than"),
        (0.04, 0.05, 0.5, "unclear", "is neither clearly better nor clearly worse than"),
        (0.0, 0.05, 0.5, "no", "is worse than always asking a"),
        (0.05, 0.0, 1.0, "yes", "at 0% lower cost"),
        (0.05, 0.0, 2.0, "unclear", "at 100% higher cost"),
        (0.002, 0.002, 1.0, "no", "is as good as"),
        (0.002, 0.002, 2.0, "no", "at 100% higher cost"),
        (0.05, 0.0, np.nan, "yes", "what it costs is unknown"),
        (0.002, 0.002, np.nan, "unclear", "what it costs is unknown"),
        (0.0, 0.05, np.nan, "no", "is worse than"),
    ],
)
def test_verdicts(
    gained: float, lost: float, cost: float, pays: str, words: str, make_table: MakeTable
) -> None:
    verdict = judged(make_table, gained, lost, cost)
    assert (verdict.pays, verdict.sentence) == (pays, verdict.sentence)
    assert words in verdict.sentence
    assert verdict.offer.delta_quality == pytest.approx(gained - lost)


def test_a_router_that_always_asks_the_best_gains_nothing(make_table: MakeTable) -> None:
    table = make_table(np.random.default_rng(0).random((30, 2)), costs=[[2.0, 1.0]] * 30)
    alone = measure(table, always(table, np.zeros(30)))
    bootstrap = ClusterBootstrap(table.groups, seed=0, replicates=50)
    settings = [Setting(0.0, 0, 0.0, 0.0, safe=True)]
    verdict = judge("ours", table, [alone], settings, Rival("a", alone), bootstrap)
    assert verdict.pays == "no"
    assert "sends everything to a, the best single expert: nothing is gained" in verdict.sentence


def test_slices_say_where_routing_wins_and_loses(make_table: MakeTable) -> None:
    tasks = ["won"] * 100 + ["same"] * 200 + ["lost"] * 91 + ["tiny"] * 9
    verdict = judged(make_table, 0.2, 0.05, 0.5, tasks)
    findings = {part.task: part.finding for part in verdict.slices}
    assert findings == {"won": "wins", "same": "same", "lost": "loses", "tiny": "unclear"}
    assert verdict.loses_on == ("lost",)
    assert [part.task for part in verdict.slices][:2] == ["same", "won"]
    won = next(part for part in verdict.slices if part.task == "won")
    assert (won.count, won.quality, won.best_single) == (100, 0.8, 0.0)
    assert won.cost_save == pytest.approx(0.5)


def test_a_table_without_tasks_has_no_slices(make_table: MakeTable) -> None:
    table = make_table(np.ones((5, 2)))
    traffic: ReplayedTraffic = measure(table, always(table, np.zeros(5)))
    bootstrap = ClusterBootstrap(table.groups, seed=0, replicates=10)
    assert slices(table, traffic, traffic, bootstrap) == ()


def test_the_headline_names_the_losses(make_table: MakeTable) -> None:
    tasks = ["won"] * 200 + ["lost"] * 200
    verdict = judged(make_table, 0.2, 0.05, 0.5, tasks)
    result = RouterResult("ours", 0.0, 0.0, (), {}, {}, None, None, verdict)
    assert headline(result).startswith("Routing pays here: ours is better than")
    assert headline(result).endswith("It loses on “lost” (−10.0).")


def setting(gain: float, save: float, safe: bool) -> Setting:
    return Setting(0.0, 0, gain, save, safe)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"a": setting(0.01, 0.5, True), "b": setting(0.03, 0.2, True)}, "a"),
        ({"a": setting(0.01, 0.5, True), "b": setting(0.05, 0.2, True)}, "b"),
        ({"a": setting(0.01, 0.9, False), "b": setting(0.0, 0.0, True)}, "b"),
        ({"a": setting(-0.02, 0.9, False), "b": setting(-0.01, 0.1, False)}, "b"),
        ({"a": setting(np.nan, np.nan, False), "b": setting(-0.5, 0.1, False)}, "b"),
        ({"a": setting(0.01, np.nan, True), "b": setting(0.02, np.nan, True)}, "b"),
    ],
)
def test_the_recommended_router_has_the_best_balance_of_the_safe_ones(
    settings: dict[str, Setting], expected: str
) -> None:
    assert recommend(settings) == expected
