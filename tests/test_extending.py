"""The example of docs/extending.md works as it is printed."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import cast

import numpy as np

from routers.base import Estimator
from routers.encoders import HashingEncoder
from routers.features import Featurizer
from routers.records import OutcomeTable

DOC = Path(__file__).parent.parent / "docs" / "extending.md"


def example() -> type[Estimator]:
    (source,) = re.findall(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL)
    module = ModuleType("digit_example")
    exec(compile(source, str(DOC), "exec"), module.__dict__)  # noqa: S102 - our own document
    return cast("type[Estimator]", module.__dict__["DigitEstimator"])


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
    kind = example()
    table, rng = a_world(), np.random.default_rng(0)
    featurizer = Featurizer(HashingEncoder()).fit(table.prompts, rng)
    fitted = kind().fit(featurizer.transform(table.prompts), table, rng)
    asked = featurizer.transform(["how much is 7", "how much is it"])
    quality_NA = fitted.predict(asked).quality_NA
    assert quality_NA.argmax(axis=1).tolist() == [0, 1]
    again = kind.from_state(fitted.state())
    np.testing.assert_array_equal(again.predict(asked).quality_NA, quality_NA)
