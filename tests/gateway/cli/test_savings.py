"""`pointsman savings`: what was spent, beside what might have been done instead."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from eval.errors import OffPolicyError
from gateway.cli.main import app
from gateway.errors import ConfigError
from gateway.routing.router_store import RouterStore
from routers.fitting.fit import fit_router
from tests.gateway.logged_world import EXPERTS, WORDS, Questions, fill

ASKED = 1800
# 30 tokens at $2 or $9 a million; every expert is drawn nearly as often as any other.
CHEAP, DEAR = 60e-6, 270e-6


def run(*words: str) -> Result:
    result = CliRunner().invoke(app, ["savings", *words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("book")
    rng = np.random.default_rng(2)
    fill(f"sqlite:///{directory}/ledger.db", Questions.draw(ASKED, rng), rng, scored=0.9)
    store = RouterStore(directory / "routers")
    for estimator in ("ridge", "prior"):
        router = fit_router("default", estimator, Questions.draw(300, rng).table(rng), seed=0)
        store.promote("default", store.publish(router))
    settings = {
        "experts": [{"id": name, "base_url": "http://127.0.0.1:9/v1"} for name in EXPERTS],
        "ledger": {"url": f"sqlite:///{directory}/ledger.db"},
        "data_dir": str(directory),
    }
    (directory / "config.yaml").write_text(json.dumps(settings))
    return directory


def test_savings_are_told_against_each_alternative_with_their_intervals(book: Path) -> None:
    config, report = str(book / "config.yaml"), str(book / "report")
    found = json.loads(run("--config", config, "--json", "--report", report).stdout)
    assert found["requests"] == ASKED
    best, cheapest, previous = found["alternatives"]
    assert best["name"] == "Always scholar, the best single expert"
    assert best["cost_usd"] == pytest.approx(DEAR)
    # Drawn four times in ten for its prior, else at random.
    spent = found["spent_usd"] / ASKED
    assert CHEAP < spent < DEAR
    assert best["saved"] == pytest.approx(1 - spent / DEAR, abs=0.02)
    # Each call of an expert costs the same here, so nothing is uncertain about the saving.
    assert best["saved_ci95"] == pytest.approx([best["saved"]] * 2)
    assert best["quality_gain_ci95"][1] < 0
    assert cheapest["name"].endswith("the cheapest expert")
    assert cheapest["cost_usd"] == pytest.approx(CHEAP)
    assert cheapest["saved"] < 0
    # It has learned who knows what, and so would have been better and cheaper.
    assert previous["name"] == "The previous router"
    assert previous["quality_gain_ci95"][1] < -0.1
    assert previous["saved"] < 0
    assert "Against always scholar, the best single expert, routing saved" in best["sentence"]
    part, *topics = found["parts"]
    assert (part["label"], part["value"], part["requests"]) == ("key", "k", ASKED)
    # Nobody said what they are about; their words tell.
    assert {each["label"] for each in topics} == {"topic"}
    assert sum(each["requests"] for each in topics) == ASKED
    assert sum(each["spent_usd"] for each in topics) == pytest.approx(found["spent_usd"])
    law, gene = ({*words.split()} for words in (WORDS["law"], WORDS["gene"]))
    for each in topics:
        named = {*each["value"].partition(" (")[0].split(", ")}
        assert named <= law or named <= gene
    told = (book / "report" / "savings.html").read_text()
    assert f"topic {topics[0]['value']}" in told
    assert json.loads((book / "report" / "savings.json").read_text()) == found
    assert best["sentence"] in (book / "report" / "savings.html").read_text()


def test_people_are_shown_a_table_and_a_sentence(book: Path) -> None:
    told = run("--config", str(book / "config.yaml")).stdout
    assert f"{ASKED:,} requests for $" in told
    assert f"key k: {ASKED:,} requests" in told
    assert "routing saved" in told


def test_a_window_without_decisions_is_told(book: Path) -> None:
    with pytest.raises(Exception, match="holds no decision of router 'default'"):
        run("--config", str(book / "config.yaml"), "--until", "2020-01-01")


def test_a_moment_that_is_none_is_refused(book: Path) -> None:
    with pytest.raises(ConfigError, match="'soon' is no day"):
        run("--config", str(book / "config.yaml"), "--since", "soon")


def test_without_a_score_there_is_nothing_to_compare_by(book: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    url = f"sqlite:///{tmp_path}/ledger.db"
    fill(url, Questions.draw(20, rng), rng, scored=0.0)
    with pytest.raises(OffPolicyError, match="none of the 20 decisions has a score"):
        run("--config", str(book / "config.yaml"), "--ledger", url)
