"""What every kind of composition must say of itself for the contracts: one case per kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np

from experts.base import Expert
from experts.cards import ExpertCard, Prices
from experts.fakes.scripted import Script, ScriptedExpert, says
from experts.messages import Usage
from gateway.pool.composing import Composer
from gateway.settings.root import Settings
from routers.encoders.lexical import HashingEncoder
from routers.storage.shelf import Shelf, ShelfExample

USAGE = {"a": Usage(input=11, output=3), "b": Usage(input=23, output=5)}
"""What each call of a child takes."""
PRICES = {"a": Prices(1.0, 2.0), "b": Prices(10.0, 30.0)}


@dataclass(frozen=True, slots=True)
class Case:
    """One composition over the children `a` (cheap) and `b` (dear).

    Attributes:
        entry: As the configuration has it, without its id.
        calls: How often each child is asked, all told, when nothing fails.
        says: What each child answers if it is not `same`.
        needs: Children without whom it can't answer.
    """

    entry: Mapping[str, Any]
    calls: Mapping[str, int]
    says: Mapping[str, str] = field(default_factory=dict)
    needs: frozenset[str] = frozenset()


_BOTH = frozenset({"a", "b"})


def _shelf() -> str:
    """A file with a few examples."""
    examples = [ShelfExample(f"What is {n}?", f"Think of {n}.") for n in range(3)]
    path = Path(mkdtemp()) / "examples.shelf"
    Shelf.build(examples, HashingEncoder(), np.random.default_rng(0)).save(path)
    return str(path)


CASES: Mapping[str, Case] = {
    "cascade": Case({"cascade": ["a", "b"]}, {"a": 1, "b": 1}),
    # Whether a scratch-pad is needed, then two of three that say the same.
    "medprompt": Case(
        {"medprompt": {"of": "a", "runs": 2, "direct": 1, "shelf": _shelf(), "at_once": 1}},
        {"a": 3},
        needs=_BOTH,
    ),
    # n · (L − 1) + 1.
    "mixture": Case(
        {"mixture": {"of": ["a", "b"], "aggregator": "b", "layers": 3}}, {"a": 2, "b": 3}
    ),
    "mode": Case({"mode": {"of": "a", "how": "reasoning"}}, {"a": 1}, needs=_BOTH),
    "panel": Case({"panel": {"of": ["a", "b"], "n": 2, "judge": "b"}}, {"a": 2, "b": 3}),
    "peers": Case({"peers": {"of": ["a"], "primary": "b"}}, {"a": 1, "b": 1}, needs=frozenset("b")),
    # n + ⌈(n − 1) / (w − 1)⌉.
    "self_moa": Case(
        {"self_moa": {"of": "a", "n": 5, "window": 3, "aggregator": "b"}},
        {"a": 5, "b": 2},
        needs=frozenset("a"),
    ),
    "templates": Case({"templates": {"of": "a", "shelf": _shelf()}}, {"a": 1}, needs=_BOTH),
    # One after the other: three of four that say the same are enough.
    "best_of": Case({"best_of": {"of": ["a", "b"], "n": 2}}, {"a": 2, "b": 2}),
    "routed": Case({"routed": ["a", "b"]}, {"a": 1, "b": 1}),
    "vote": Case({"vote": {"of": ["a", "b"], "n": 2, "at_once": 1}}, {"a": 2, "b": 1}),
    # A driver that never answers: what it was last told is passed on.
    "rounds": Case(
        {"rounds": {"driver": "a", "of": ["b"], "max_rounds": 1}},
        {"a": 2, "b": 1},
        {"a": "<think>t</think><search>b:q</search>"},
        frozenset({"a", "b"}),
    ),
}
"""By kind; a kind without a case fails the suite."""


def children_of(
    case: Case, scripts: Mapping[str, Script] | None = None
) -> dict[str, ScriptedExpert]:
    """The children that answer as the case says, or as `scripts` do."""
    return {
        name: ScriptedExpert(
            ExpertCard(name, prices=PRICES[name]),
            (scripts or {}).get(name) or says(case.says.get(name, "same"), USAGE[name]),
        )
        for name in ("a", "b")
    }


def pool_of(
    children: Mapping[str, Expert],
    *entries: Mapping[str, Any],
    uniform: Callable[[], float] = float,
    code: Mapping[str, Any] | None = None,
) -> dict[str, Expert]:
    """Children and the compositions over them, by id; `code` as in `outcomes.code`."""
    listed = [{"id": name, "base_url": "http://127.0.0.1:9/v1"} for name in children]
    settings = Settings.model_validate(
        {"experts": [*listed, *entries], "outcomes": {"code": code or {}}}
    )
    composer = Composer(settings.experts, children, uniform, settings.outcomes.code)
    return {**children, **composer.build()}
