"""`pointsman judges`: gates fitted from preferences, scores freed of length, nobody overruled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from sqlalchemy import Engine, select

from eval.errors import ComparisonError
from eval.judging.debias import MOST_CORRELATION
from eval.judging.fitted import FittedGate
from gateway.errors import ConfigError
from gateway.ids import new_id, now
from gateway.ledger import tables
from gateway.ledger.database import opened
from gateway.ledger.judged import book, opinions
from gateway.ledger.rows import Row
from gateway.ledger.scores import latest_scores
from gateway.ledger.verify import verify_ledger
from gateway.outcomes.ended import Scored
from tests.commands import run
from tests.eval.judging.test_fitted import OBJECTIVES, preferred
from tests.gateway.logged_world import EXPERTS, Questions, fill

ANSWERS = 120


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A configuration with three judges."""
    common = {"expert": "lawyer", "budget_usd": 1}
    settings = {
        "experts": [{"id": name, "base_url": "http://127.0.0.1:9/v1"} for name in EXPERTS],
        "ledger": {"url": f"sqlite:///{tmp_path}/ledger.db"},
        "data_dir": str(tmp_path),
        "judges": [
            {"name": "house", **common},
            {"name": "duel", "how": "pair", **common},
            {"name": "wide", "objectives": {name: f"Is {name}." for name in OBJECTIVES}, **common},
        ],
    }
    (tmp_path / "config.yaml").write_text(json.dumps(settings))
    return tmp_path


def asked(home: Path, prompts: tuple[str, ...], written: list[int]) -> list[str]:
    """Book one decision for each prompt; returns their ids."""
    url = f"sqlite:///{home}/ledger.db"
    questions = Questions(prompts, np.full((len(prompts), 3), 0.5))
    fill(url, questions, np.random.default_rng(0), scored=0.0, written=written)
    with opened(url) as engine, engine.connect() as connection:
        ids = connection.execute(select(tables.decision.c.decision_id)).scalars()
        by_prompt = {
            each.prompt: each.decision_id
            for each in connection.execute(
                select(tables.request.c.prompt, tables.decision.c.decision_id).join(
                    tables.decision,
                    tables.decision.c.request_id == tables.request.c.request_id,
                )
            )
        }
        assert len(list(ids)) == len(prompts)
    return [by_prompt[prompt] for prompt in prompts]


def counting(engine: Engine) -> dict[str, float]:
    with engine.connect() as connection:
        rows = connection.execute(latest_scores("quality")).all()
    return {row.decision_id: row.score for row in rows}


def test_a_judge_that_likes_length_is_freed_of_it_and_nobody_is_overruled(home: Path) -> None:
    rng = np.random.default_rng(1)
    length = rng.integers(50, 800, ANSWERS)
    merit_N = rng.uniform(0.2, 0.6, ANSWERS)
    score_N = merit_N + 0.0005 * length
    ids = asked(home, tuple(f"question {row}" for row in range(ANSWERS)), length.tolist())
    url = f"sqlite:///{home}/ledger.db"
    with opened(url) as engine:
        book(
            engine,
            [
                Scored(one).row("quality", score, "judge:house")
                for one, score in zip(ids, score_N.tolist(), strict=True)
            ],
        )
        book(engine, [Scored(ids[0]).row("quality", 0.123, "app")])
        assert spearmanr(score_N, length).statistic > 0.4
    words = ("judges", "rescore", "house", "--config", str(home / "config.yaml"))
    told = json.loads(run(*words, "--json").stdout)
    assert told["scored_later_by_others"] == 1
    assert told["booked"] + told["unchanged"] == ANSWERS - 1
    assert told["length_weight"]["quality"] == pytest.approx(0.0005, rel=0.4)
    with opened(url) as engine:
        scores = counting(engine)
        fair_N = np.array([scores[one] for one in ids])
        assert verify_ledger(engine).faults == ()
        assert {each.scores["quality"] for each in opinions(engine, "judge:house")} == set(
            score_N.tolist()
        )
    assert fair_N[0] == 0.123
    assert spearmanr(fair_N[1:], length[1:]).statistic < MOST_CORRELATION + 0.05
    assert np.corrcoef(fair_N[1:], merit_N[1:])[0, 1] > 0.95
    again = json.loads(run(*words, "--json").stdout)
    assert (again["booked"], again["unchanged"]) == (0, ANSWERS - 1)
    assert "0 scores of quality booked anew" in run(*words).stdout


def pairs_file(home: Path, count: int = 200) -> Path:
    pairs, _ = preferred(count, 7)
    lines = [
        json.dumps(
            {
                "prompt": prompt,
                "chosen": dict(zip(OBJECTIVES, chosen, strict=True)),
                "rejected": dict(zip(OBJECTIVES, rejected, strict=True)),
            }
        )
        for prompt, chosen, rejected in zip(
            pairs.prompts, pairs.chosen_NK.tolist(), pairs.rejected_NK.tolist(), strict=True
        )
    ]
    path = home / "pairs.jsonl"
    path.write_text("\n".join(lines))
    return path


def test_a_gate_is_fitted_from_a_file_and_scores_what_is_in_the_book(home: Path) -> None:
    config = ("--config", str(home / "config.yaml"))
    told = json.loads(
        run("judges", "fit", "wide", "--pairs", str(pairs_file(home)), "--json", *config).stdout
    )
    assert told["gate"] > 0.85
    assert told["gate"] > told["equal"]
    assert FittedGate.load(home / "judges" / "wide.safetensors").objectives == OBJECTIVES
    prompts = ("solve equation proof 1", "apologise customer letter 2", "solve integral proof 3")
    ids = asked(home, prompts, [20, 20, 20])
    with opened(f"sqlite:///{home}/ledger.db") as engine:
        rows = [
            Scored(one).row(name, score, "judge:wide")
            for one in ids[:2]
            for name, score in zip(OBJECTIVES, (1.0, 0.0, 0.0), strict=True)
        ]
        book(engine, [*rows, Scored(ids[2]).row("correct", 1.0, "judge:wide")])
        done = json.loads(run("judges", "rescore", "wide", "--json", *config).stdout)
        assert (done["booked"], done["unknown"]) == (2, 1)
        scores = counting(engine)
    # The same marks are worth more where being correct is what people want.
    assert scores[ids[0]] > 0.6
    assert scores[ids[1]] < 0.4
    assert ids[2] not in scores


def test_preferences_come_from_shadow_calls_too(home: Path) -> None:
    pairs, _ = preferred(60, 8)
    ids = asked(home, tuple(pairs.prompts), [20] * 60)
    rows: list[Row] = []
    for place, one in enumerate(ids):
        call_id, shadow_won = new_id("shc"), place % 2 == 0
        sides = (pairs.chosen_NK[place].tolist(), pairs.rejected_NK[place].tolist())
        shadow, delivered = sides if shadow_won else sides[::-1]
        rows += _shadow_rows(call_id, one)
        about = Scored(one, call_id)
        rows.append(about.row("preferred", 1.0 if shadow_won else 0.0, "judge:duel"))
        for name, score, other in zip(OBJECTIVES, shadow, delivered, strict=True):
            rows.append(about.row(name, score, "judge:wide"))
            rows.append(Scored(one).row(name, other, "judge:wide"))
    with opened(f"sqlite:///{home}/ledger.db") as engine:
        book(engine, rows)
    words = ("judges", "fit", "wide", "--config", str(home / "config.yaml"))
    told = json.loads(run(*words, "--json").stdout)
    assert told["pairs"] == 60
    assert told["gate"] > 0.75
    with pytest.raises(ComparisonError, match="holds no preference"):
        run(*words, "--preferred", "nothing")


def _shadow_rows(call_id: str, decision_id: str) -> list[Row]:
    call = {
        "call_id": call_id, "root_id": call_id, "decision_id": decision_id, "at": now(),
        "expert_id": "scholar", "price_id": None,
    }  # fmt: skip
    columns: dict[str, Any] = dict.fromkeys(tables.shadow_result.c.keys())
    result = {
        **columns, "call_id": call_id, "at": now(), "status": "ok", "output_tokens": 20,
        "tokens_estimated": False, "latency_s": 0.1,
    }  # fmt: skip
    return [Row(tables.shadow_call, call), Row(tables.shadow_result, result)]


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("fit", "nobody"), "no judge is called 'nobody'; there are house, duel, wide"),
        (("fit", "house"), "house has no `objectives`"),
        (("rescore", "duel"), "duel compares pairs"),
    ],
)
def test_what_a_judge_can_not_do_is_said(home: Path, words: tuple[str, ...], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        run("judges", *words, "--config", str(home / "config.yaml"))


def test_preferences_by_other_objectives_are_refused(home: Path) -> None:
    path = home / "other.jsonl"
    path.write_text(json.dumps({"prompt": "a", "chosen": {"x": 1}, "rejected": {"x": 0}}))
    with pytest.raises(ConfigError, match="score x; judge wide scores correct, polite, short"):
        run("judges", "fit", "wide", "--pairs", str(path), "--config", str(home / "config.yaml"))
