"""What every estimator that explains owes its users: reasons that agree with what it predicts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logit

from routers.base import Explaining
from routers.records import OutcomeTable
from routers.registry import estimator_class, estimator_names, make_estimator
from tests.contracts.test_estimators import a_world, featurized, fit

# What they mix agrees with what each member predicts, not with the mixture.
MIXED = {"average", "stack"}
EXPLAINING = [name for name in estimator_names() if hasattr(estimator_class(name), "reasons")]


@pytest.fixture(scope="module")
def world() -> OutcomeTable:
    return a_world(np.random.default_rng(0))


def test_who_is_built_to_explain_does() -> None:
    assert {*EXPLAINING} >= MIXED | {"category", "cluster", "knn", "logistic", "pilot", "ridge"}


@pytest.mark.parametrize("name", EXPLAINING)
def test_reasons_agree_with_predictions(name: str, world: OutcomeTable) -> None:
    fitted = fit(make_estimator(name), world)
    direct = name not in MIXED
    assert isinstance(fitted, Explaining)
    features = featurized(world)
    # Nothing is known of the last one.
    chosen, other, unknown = world.experts[0], world.experts[1], world.experts[-1]
    for row in range(0, len(world), len(world) // 8):
        asked = features.take(np.array([row]))
        found = fitted.reasons(asked, chosen, other)
        assert found.neighbours or found.regions or found.linear
        quality_A = fitted.predict(asked).quality_NA[0]
        pair = quality_A[:2]
        if direct and found.linear is not None and pair.min() > 0 and pair.max() < 1:
            line = found.linear
            told = line.baseline + line.slope_D @ (asked.vectors_ND[0] - line.mean_D)
            scale = logit(pair) if line.unit == "log-odds" else pair
            assert told == pytest.approx(scale[0] - scale[1], abs=1e-5)
        if found.regions and direct:
            assert sum(one.share for one in found.regions) == pytest.approx(1)
            mixed = [
                sum(one.share * one.quality[expert] for one in found.regions)
                for expert in (chosen, other)
            ]
            assert mixed == pytest.approx(pair, abs=1e-6)
        if found.neighbours:
            nearest = (features.vectors_ND @ asked.vectors_ND[0]).max()
            assert found.neighbours[0].similarity == pytest.approx(nearest, abs=1e-5)
        unheard = fitted.reasons(asked, chosen, unknown)
        assert unheard.linear is None
        assert all(unknown not in one.quality for one in unheard.regions)
        again = type(fitted).from_state(fitted.state())
        assert isinstance(again, Explaining)
        assert again.reasons(asked, chosen, other).neighbours == found.neighbours
        assert again.reasons(asked, chosen, other).regions == found.regions
