"""A real engine's tokens, priced by what its machine costs, add up to what it cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.machine import measured

pytest.importorskip("xllamacpp")
pytestmark = pytest.mark.slow


def test_the_ledger_holds_what_the_machine_cost(tmp_path: Path) -> None:
    found = measured(tmp_path, rounds=12, idle_s=2.0, usd_per_hour=0.05)
    assert found.calls == 24
    assert found.ledger_usd == pytest.approx(found.machine_usd, rel=0.02)
    # There was more to pay for than what the calls took.
    assert 0 < found.busy_share < 1
    assert found.output_usd > 0
