"""Cascade routing by a fitted rule, as the composition that the settings build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

from experts.base import Call, Expert
from experts.cards import ExpertCard, Prices
from experts.compose.alone import answer_alone
from experts.fakes.scripted import ScriptedExpert, says
from experts.messages import ChatRequest, Completion, Message, Usage
from gateway.errors import ConfigError
from gateway.pool.planning import KIND
from routers.cascading.posterior import Seen
from routers.cascading.routing import CascadeRouting
from routers.storage.state_files import save_state
from tests.contracts.composition_cases import pool_of

EXPERTS = ("a", "b", "c")


def rule(*, learn: bool) -> CascadeRouting:
    """Of experts that are right in 50, 70 and 90 of 100, with signals that know."""
    rng = np.random.default_rng(0)
    count = 400
    ante_NA = np.tile([0.5, 0.7, 0.9], (count, 1))
    score_NA = (rng.uniform(size=(count, 3)) < ante_NA).astype(float)
    same_NAA = None
    if learn:
        both = score_NA[:, :, None] * score_NA[:, None, :]
        same_NAA = np.maximum(both, np.eye(3))
    seen = Seen(ante_NA, 0.02 + 0.96 * score_NA, same_NAA)
    groups = [str(row) for row in range(count)]
    return CascadeRouting.fit(EXPERTS, seen, score_NA, groups, rng, learn=learn)


def a_pool(path: Path, *more: str, **entry: Any) -> dict[str, Expert]:
    """Three children, the first of which goes on with `more`."""
    children: dict[str, Expert] = {
        name: ScriptedExpert(
            ExpertCard(name, prices=Prices(price, price), quality_prior=quality),
            *[says(text, Usage(input=10, output=5)) for text in texts],
        )
        for name, price, quality, texts in (
            ("a", 1, 0.5, ("6 * 7 = 43", *more)),
            ("b", 10, 0.7, ("6 * 7 = 42",)),
            ("c", 100, 0.9, ("6 * 7 = 41",)),
        )
    }
    told = {"children": list(EXPERTS), "judged": {"by": "arithmetic"}, "planner": str(path)}
    return pool_of(children, {"id": "it", "kind": "routed", **told, **entry})


def answer(pool: dict[str, Expert]) -> tuple[Completion, Call]:
    asked = ChatRequest((Message("user", "What is 6 times 7?"),))
    return anyio.run(answer_alone, pool["it"], asked)


@pytest.mark.parametrize("learn", [False, True], ids=["own signals", "learned"])
def test_a_fitted_rule_asks_on_until_an_answer_is_right(tmp_path: Path, learn: bool) -> None:
    save_state(KIND, rule(learn=learn).state(), tmp_path / "rule")
    completion, call = answer(a_pool(tmp_path / "rule", same="numeric"))
    asked = [step["ask"] for step in call.trace]
    assert completion.text == "6 * 7 = 42"
    assert asked[-1] is None
    assert "b" in asked
    assert call.trace[-1]["expected"]["b"] > 0.9


def test_where_money_is_dear_the_cheapest_is_all(tmp_path: Path) -> None:
    save_state(KIND, rule(learn=False).state(), tmp_path / "rule")
    completion, call = answer(a_pool(tmp_path / "rule", usd_weight=1e5))
    assert completion.text == "6 * 7 = 43"
    assert call.below.calls == 1


def test_the_answer_is_what_was_judged(tmp_path: Path) -> None:
    save_state(KIND, rule(learn=False).state(), tmp_path / "rule")
    judged = {"by": "agreement", "same": "numeric"}
    pool = a_pool(tmp_path / "rule", "It is 42.", "42", usd_weight=1e5, judged=judged)
    assert answer(pool)[0].text == "It is 42.", "two of three say so, the first answer does not"


def test_a_rule_for_others_is_refused(tmp_path: Path) -> None:
    save_state(KIND, rule(learn=False).state(), tmp_path / "rule")
    with pytest.raises(ConfigError, match="fitted for the children a, b, c"):
        a_pool(tmp_path / "rule", children=["b", "a", "c"])
    with pytest.raises(ConfigError, match="can't be read"):
        a_pool(tmp_path / "none")
