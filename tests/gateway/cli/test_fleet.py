"""`pointsman fleet` from files to a configuration that `serve` takes, and a batch shared out."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from eval.tables.sources import write_outcomes
from gateway.cli.fleet import capacities_of
from gateway.cli.main import app
from gateway.errors import ConfigError, GatewayError
from gateway.ledger.database import opened
from gateway.ledger.queries import LedgerReader
from gateway.ledger.verify import verify_ledger
from gateway.settings.load import load_settings
from tests.eval.fleet.test_fleet import SIZES, a_table
from tests.gateway.logged_world import EXPERTS, Questions, fill


def rows(seed: int, split: str) -> list[dict[str, Any]]:
    table = a_table(seed)
    return [
        {
            "query_id": f"{split}{table.query_ids[row]}",
            "task": table.tasks[row],
            "prompt": table.prompts[row],
            "model": expert,
            "score": float(table.score_NA[row, column]),
            "split": split,
        }
        for row in range(len(table))
        for column, expert in enumerate(table.experts)
    ]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet")
    write_outcomes([*rows(0, "train"), *rows(1, "dev")], folder / "outcomes.parquet")
    lines = [f"{name},{size},{size}" for name, size in SIZES.items()]
    text = "\n".join(["model,total_params_b,active_params_b", *lines])
    (folder / "sizes.csv").write_text(text + "\n")
    return folder


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["fleet", *words])


def test_a_fleet_is_designed_judged_and_written_down(files: Path, tmp_path: Path) -> None:
    told = run(
        "design",
        *("--train", str(files / "outcomes.parquet"), "--footprints", str(files / "sizes.csv")),
        *("--size-budget", "6", "--out", str(tmp_path / "fleet.yaml"), "--json"),
    )
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert found["experts"] == ["chef", "coder"]
    assert found["map"] == {"cooking": "chef", "python": "coder"}
    assert found["held_out"][0]["quality"] > found["held_out"][2]["quality"]
    settings = load_settings(tmp_path / "fleet.yaml")
    assert [expert.id for expert in settings.experts] == ["chef", "coder"]
    assert settings.experts[0].params_total_b == 3.0  # type: ignore[union-attr]


def test_people_see_the_map_and_the_front(files: Path) -> None:
    told = run(
        "design",
        *("--train", str(files / "outcomes.parquet"), "--footprints", str(files / "sizes.csv")),
    )
    for words in ("who answers what", "on 240 held-out queries", "the front", "best single: large"):
        assert words in told.stdout


def test_a_batch_is_shared_out_within_capacities(files: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    experts = [{"id": name, "base_url": "http://127.0.0.1:1/v1"} for name in ("chef", "coder")]
    config.write_text(json.dumps({"experts": experts, "data_dir": str(tmp_path / "data")}))
    trained = CliRunner().invoke(
        app,
        ["train", "--data", str(files / "outcomes.parquet"), "--promote", "--config", str(config)],
    )
    assert trained.exit_code == 0, trained.output
    prompts = tmp_path / "prompts.jsonl"
    table = a_table(2, 40)
    lines = [json.dumps({"query_id": f"q{n}", "prompt": p}) for n, p in enumerate(table.prompts)]
    prompts.write_text("\n".join(lines))
    out = tmp_path / "shared.jsonl"
    words = ("--prompts", str(prompts), "--out", str(out), "--config", str(config), "--json")
    told = run("assign", "--capacity", "chef=30,coder=15", *words)
    assert told.exit_code == 0, told.output
    experts_of = [json.loads(line)["expert"] for line in out.read_text().splitlines()]
    assert Counter(experts_of) == {"chef": 25, "coder": 15}
    assert all(
        task == "python"
        for task, expert in zip(table.tasks, experts_of, strict=True)
        if expert == "coder"
    )
    assert json.loads(told.stdout)["experts"]["coder"]["price"] > 0
    for capacity, said in (("chef=5", "adds up to 5"), ("chef=20,nobody=30", "names 'nobody'")):
        refused = run("assign", "--capacity", capacity, *words)
        assert isinstance(refused.exception, GatewayError)
        assert said in str(refused.exception)


@pytest.mark.parametrize("text", ["a", "a=", "=3", "a=x", "a=1,a=2", ""])
def test_capacities_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="must be EXPERT=NUMBER"):
        capacities_of(text)


def test_the_ledger_tells_how_many_to_keep_awake(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    rng = np.random.default_rng(0)
    fill(url, Questions.draw(60, rng), rng)
    told = run("residency", "--ledger", url, "--json")
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert found["requests"] == 60
    assert set(found["asked"]) == set(EXPERTS)
    assert [room["awake"] for room in found["rooms"]] == [1, 2, 3][: len(EXPERTS)]
    for room in found["rooms"]:
        assert room["best"] >= max(room["least_recent"], room["look_ahead"])
    assert len(found["keep"]) == len(EXPERTS)
    shown = run("residency", "--ledger", url)
    assert f"keep {len(EXPERTS)} of {len(EXPERTS)} awake" in shown.stdout


def test_a_machines_hours_become_a_price_that_the_ledger_pays_back(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    rng = np.random.default_rng(0)
    began = datetime.now(UTC) - timedelta(minutes=30)
    fill(url, Questions.draw(60, rng), rng)
    span = ("--since", began.isoformat(), "--until", (began + timedelta(hours=1)).isoformat())
    expert = EXPERTS[0]
    words = ("price", "--expert", expert, "--usd-per-hour", "2.5", *span, "--ledger", url)
    told = json.loads(run(*words, "--apply", "--json").stdout)
    assert (told["hours"], told["usd"]) == pytest.approx((1.0, 2.5))
    told = told["experts"][expert]
    assert told["reconciled"] == pytest.approx(1.0, abs=0.02)
    assert told["corrected"] == told["calls"] > 5
    with opened(url) as engine:
        assert verify_ledger(engine).faults == ()
        spent = {row["expert"]: row["cost_usd"] for row in LedgerReader(engine).by_expert()}
    assert spent[expert] == pytest.approx(2.5, rel=0.02)
    assert "idle time included" in told["whole"]["source"]
    shown = run(*words)
    assert "the tokens at the first pay for 100.00% of the machine" in shown.stdout
    unsaid = run(*words[:3], *span, "--ledger", url)
    assert f"what an hour of {expert}'s machine costs; give" in str(unsaid.exception)
    backwards = run(*words[:5], "--since", span[3], "--until", span[1], "--ledger", url)
    assert "--until must be after --since" in str(backwards.exception)
