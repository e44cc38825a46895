"""The examples of docs/extending.md work as they are printed."""

from __future__ import annotations

import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

from gateway.settings.routing import RoutingSettings
from routers import registry
from routers.base import Estimator, Policy
from routers.encoders.lexical import HashingEncoder
from routers.features import Featurizer
from routers.records import Candidates, OutcomeTable, Preference

DOC = Path(__file__).parent.parent / "docs" / "extending.md"


def example(name: str) -> Any:
    """What the document calls so, of the example that defines it."""
    sources = re.findall(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL)
    (source,) = [source for source in sources if f"class {name}:" in source]
    module = ModuleType(f"example_{name}")
    # Dataclasses look their module up.
    sys.modules[module.__name__] = module
    exec(compile(source, str(DOC), "exec"), module.__dict__)  # noqa: S102 - our own document
    return module.__dict__[name]


def a_world() -> OutcomeTable:
    """Expert `a` is right with digits, `b` without."""
    prompts = tuple(f"count {i}" if i % 2 else f"name {'x' * (i % 7)}" for i in range(60))
    digit = np.array([any(c.isdigit() for c in prompt) for prompt in prompts])
    score_NA = np.column_stack([digit, ~digit]).astype(float)
    score_NA[0, 0] = np.nan
    unknown = np.full_like(score_NA, np.nan)
    ids = tuple(f"q{i}" for i in range(60))
    none = (None,) * 60
    ones = np.ones_like(score_NA)
    return OutcomeTable(
        ids, prompts, none, ids, ("a", "b"), score_NA, unknown, unknown, unknown, unknown, ones
    )


def test_the_example_learns_and_survives_a_round_trip() -> None:
    kind: type[Estimator] = example("DigitEstimator")
    table, rng = a_world(), np.random.default_rng(0)
    featurizer = Featurizer(HashingEncoder()).fit(table.prompts, rng)
    fitted = kind().fit(featurizer.transform(table.prompts), table, rng)
    asked = featurizer.transform(["how much is 7", "how much is it"])
    quality_NA = fitted.predict(asked).quality_NA
    assert quality_NA.argmax(axis=1).tolist() == [0, 1]
    again = kind.from_state(fitted.state())
    np.testing.assert_array_equal(again.predict(asked).quality_NA, quality_NA)


def test_the_policy_shares_among_the_best_and_is_configured_by_its_entry_point(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = example("EvenPolicy")
    policy: Policy = kind(margin=0.1)
    pool = Candidates(
        experts=("a", "b", "c"),
        quality_A=np.array([0.9, 0.85, 0.5]),
        stderr_A=np.full(3, 0.1),
        cost_usd_A=np.full(3, 0.01),
        latency_s_A=np.full(3, np.nan),
        output_tokens_A=np.full(3, 10.0),
        penalty_A=np.zeros(3),
        cost_scale_usd=0.01,
        latency_scale_s=1.0,
    )
    probabilities_A, utility_A = policy.distribution(pool, Preference())
    assert probabilities_A.tolist() == [0.5, 0.5, 0.0]
    assert utility_A.tolist() == [0.9, 0.85, 0.5]
    point = EntryPoint("even", "example_EvenPolicy:EvenPolicy", registry.POLICY_GROUP)
    brought = {registry.POLICY_GROUP: [point]}
    monkeypatch.setattr(registry, "entry_points", lambda group: brought.get(group, []))
    (line,) = re.findall(r"`routing.policies: (\{fair.*?\}\}\})`", DOC.read_text())
    said = yaml.safe_load(line)["fair"]
    configured = RoutingSettings.model_validate({"policies": {"fair": said}}).policies["fair"]
    assert configured.policy() == kind(margin=0.05)
    assert registry.make_policy("even", margin=0.5).distribution(pool, Preference())[0].all()
