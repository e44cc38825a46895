from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from typer.testing import CliRunner, Result

from eval.errors import ComparisonError
from eval.tables.sources import write_outcomes
from gateway.cli.evaluate import form_of, learned_routers, pair_of
from gateway.cli.main import app
from gateway.errors import ConfigError
from routers.estimators.ridge import RidgeEstimator
from routers.fitting.recipe import Recipe
from routers.registry import estimator_names


def test_all_is_the_default_and_every_estimator_that_learns() -> None:
    names, _ = learned_routers()
    assert names[0] == "default"
    assert "prior" not in names
    recipes = [Recipe.read(name) for name in names]
    assert len(set(recipes)) == len(recipes)
    assert {"knn", "category"} <= {recipe.estimator for recipe in recipes}


def test_slow_ones_are_left_out_with_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RidgeEstimator, "slow", True, raising=False)
    names, notes = learned_routers()
    assert "ridge" in estimator_names()
    assert "ridge" not in names
    assert any("ridge" in note and "no part in 'all'" in note for note in notes)


def test_a_pair_is_two_routers() -> None:
    assert pair_of("knn,ridge+static") == ("knn", "ridge+static")
    for text in ("knn", "knn,", ",knn", "knn,ridge,average", "knn,knn"):
        with pytest.raises(ConfigError, match="must name two routers"):
            pair_of(text)


def test_the_format_is_recognised_unless_it_is_named() -> None:
    assert form_of("auto") is None
    assert form_of("routerbench") == "routerbench"


def recorded(path: Path, *, answers: bool = True) -> Path:
    """Two cheap experts that are right on easy questions, and one that is on all, at ten times."""
    rng, rows = np.random.default_rng(0), list[dict[str, Any]]()
    for number in range(180):
        easy = number % 3 > 0
        for place, (model, usd) in enumerate((("small", 1e-3), ("tiny", 1e-3), ("large", 1e-2))):
            right = rng.uniform() < (0.95 if easy or model == "large" else 0.3)
            said = f"It is {number + 1 if right else number + 2 + place}."
            rows.append({
                "query_id": f"q{number:03d}", "task": "easy" if easy else "hard", "model": model,
                "prompt": f"{'Add 1 to' if easy else 'Factor the polynomial of'} {number}",
                "score": float(right), "cost_usd": usd, "prompt_tokens": 9, "completion_tokens": 4,
                **({"response": said} if answers else {}),
            })  # fmt: skip
    return write_outcomes(rows, path)


def _evaluate(table: Path, *words: str) -> Result:
    told = ["--train", str(table), "--test", str(table), "--report", str(table.parent / "out")]
    return CliRunner().invoke(app, ["evaluate", *told, "--routers", "knn+hashing", *words])


def test_compositions_stand_beside_experts_and_the_router_chooses_among_all(tmp_path: Path) -> None:
    table = recorded(tmp_path / "graded.parquet")
    found = _evaluate(table, "--compositions", "all", "--jobs", "1")
    assert found.exit_code == 0, found.output
    assert "over fixed" in found.output
    metrics = orjson.loads((tmp_path / "out/metrics.json").read_bytes())
    composed = metrics["data"]["compositions"]
    assert set(composed) < set(metrics["singles"])
    (agreed,) = (name for name in composed if name.endswith(" else large)"))
    beside, large = metrics["singles"][agreed], metrics["singles"]["large"]
    assert 2e-3 < beside["cost_usd"] < 0.7 * large["cost_usd"]
    assert beside["quality"] > metrics["singles"]["small"]["quality"]
    assert [each["weight"] for each in metrics["at_prices"]] == [0.03, 0.1, 0.3]
    for each in metrics["at_prices"]:
        gain, low, high = each["over_fixed"]
        assert low <= gain <= high
        assert gain == pytest.approx(each["router_utility"][0] - each["fixed_utility"][0])
        assert sum(each["shares"].values()) == pytest.approx(1)
    page = (tmp_path / "out/report.html").read_text()
    assert "choosing against the best fixed way" in page
    assert page.count(agreed) > 1


def test_without_answers_it_must_be_said_how_often_wrong_ones_are_alike(tmp_path: Path) -> None:
    table = recorded(tmp_path / "graded.parquet", answers=False)
    refused = _evaluate(table, "--compositions", "small,large")
    assert isinstance(refused.exception, ComparisonError)
    assert "how often wrong answers are alike" in str(refused.exception)


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    table, out = recorded(tmp_path / "graded.parquet"), tmp_path / "out"
    told = ["--train", table, "--test", table, "--report", out, "--jobs", "1"]
    words = [*map(str, told), "--routers", "category,knn+hashing,stack+hashing"]
    command = [sys.executable, "-m", "gateway.cli.main", "evaluate", *words]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as first:
        while not list(out.glob("finished-fits/[!.]*")):
            assert first.poll() is None
            time.sleep(0.02)
        first.kill()
    assert not (out / "metrics.json").exists()
    found = CliRunner().invoke(app, ["evaluate", *words])
    assert found.exit_code == 0, found.output
    assert re.search(
        r"note: [1-3] of 3 routers were trained by a run that was stopped", found.output
    )
    assert not (out / "finished-fits").exists()
