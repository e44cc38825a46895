"""Which decisions off-policy evaluation can use, and how many are left out why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sqlalchemy import select

from gateway.ledger.database import opened
from gateway.ledger.history import history
from gateway.ledger.tables import decision
from routers.records import FAILED, UNEXPLORED
from tests.gateway.logged_world import Questions, fill


def test_decisions_that_gave_nobody_else_a_chance_are_left_out_and_counted(tmp_path: Path) -> None:
    url, rng = f"sqlite:///{tmp_path}/ledger.db", np.random.default_rng(0)
    fill(url, Questions.draw(30, rng), rng)
    with opened(url) as engine:
        with engine.begin() as connection:
            ids = connection.execute(select(decision.c.decision_id)).scalars().all()
            for few, flag in ((ids[:4], FAILED), (ids[4:10], UNEXPLORED)):
                mine = decision.c.decision_id.in_(few)
                connection.execute(decision.update().where(mine).values(flags=[flag]))
        found = history(engine, "default")
    assert set(found.logged.table.query_ids) == set(ids[10:])
    assert found.left_out == {"made for a router that had failed": 4, "made without exploration": 6}
