"""Shadow calls are booked apart and read back the same over either database."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.ledger.database import opened
from gateway.ledger.export import export_outcomes
from gateway.ledger.history import history
from gateway.ledger.queries import LedgerReader
from gateway.ledger.residuals import residuals
from gateway.ledger.shadows import count_shadow_scores, shadow_totals, spent_since
from gateway.ledger.verify import verify_ledger
from tests.gateway.logged_world import Questions, fill

COUNT = 60


def test_shadow_calls_are_apart_in_either_database(url: str) -> None:
    rng = np.random.default_rng(0)
    fill(url, Questions.draw(COUNT, rng), rng, shadow=0.5)
    with opened(url) as engine:
        assert verify_ledger(engine).faults == ()
        calls = count_shadow_scores(engine, "default")
        aside = shadow_totals(engine, "default", (0.0, float("inf")))
        assert calls == aside.calls > 0
        totals = LedgerReader(engine).totals()
        assert (totals["requests"], totals["shadow_calls"]) == (COUNT, calls)
        assert totals == pytest.approx(LedgerReader(engine).totals(since=1.0))
        assert spent_since(engine, 0.0) == round(aside.cost_usd * 1e9)
        found = history(engine, "default", newest=COUNT)
        assert int(found.logged.seen.sum()) == COUNT + calls
        assert len(residuals(engine, "default", ["prior"], 0.0)) == COUNT + calls
        assert len(export_outcomes(engine).rows) == COUNT + calls
        sampled = found.logged.table.query_ids[int(found.logged.seen.all(axis=1).argmax())]
        record = LedgerReader(engine).decision(sampled)
        assert record is not None
        assert [len(each["outcomes"]) for each in record["shadows"]] == [1, 1]
