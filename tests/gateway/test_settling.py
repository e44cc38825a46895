"""A policy that keeps a budget is told what requests cost, and of none whose cost is unknown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from experts.cards import ExpertCard
from gateway.ledger.database import open_database
from gateway.ledger.store import Ledger
from tests.contracts.booked import CHEAP, UNPRICED, a_decision, booked


@pytest.mark.parametrize(("card", "told"), [(CHEAP, [20e-6]), (UNPRICED, [])])
def test_an_unknown_cost_is_not_told_as_nothing(
    tmp_path: Path, card: ExpertCard, told: list[float]
) -> None:
    spent: list[float] = []
    ledger = Ledger(open_database(f"sqlite:///{tmp_path}/ledger.db"), strict=False)
    booked(ledger, replace(a_decision(card), settle=spent.append))
    ledger.close()
    assert spent == pytest.approx(told)
