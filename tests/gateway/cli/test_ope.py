"""`pointsman ope`: what a router would have been worth, from a ledger of what others did."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from eval.errors import OffPolicyError
from gateway.errors import ConfigError, NothingToLearnError
from gateway.ledger.database import opened
from gateway.ledger.history import history, latest_prices
from gateway.routing.router_store import RouterStore
from routers.fitting.fit import fit_router
from routers.router import Router
from tests.commands import run
from tests.gateway.logged_world import CARDS, EXPERTS, Questions, fill

ASKED = 700


@pytest.fixture(scope="module")
def candidate() -> Router:
    """It has learned who knows what."""
    rng = np.random.default_rng(1)
    table = Questions.draw(600, rng).table(rng)
    return fit_router("default", "ridge", table, seed=0, epsilon=0.02)


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory, candidate: Router) -> Path:
    """A directory with a ledger of 700 decisions and a router that has not served."""
    directory = tmp_path_factory.mktemp("book")
    rng = np.random.default_rng(2)
    fill(f"sqlite:///{directory}/ledger.db", Questions.draw(ASKED, rng), rng, scored=0.9)
    RouterStore(directory / "routers").publish(candidate)
    settings = {
        "experts": [{"id": name, "base_url": "http://127.0.0.1:9/v1"} for name in EXPERTS],
        "ledger": {"url": f"sqlite:///{directory}/ledger.db"},
        "data_dir": str(directory),
        "routing": {"policies": {"careful": {"kind": "softmax", "temperature": 0.3}}},
    }
    (directory / "config.yaml").write_text(json.dumps(settings))
    return directory


def test_the_value_of_a_router_that_never_served_is_read_off_the_ledger(
    book: Path, candidate: Router
) -> None:
    told = run(
        "ope", "--router", f"default@{candidate.version[:6]}",
        "--config", str(book / "config.yaml"), "--report", str(book / "report"), "--json",
    )  # fmt: skip
    found = json.loads(told.stdout)
    assert found["decisions"] == ASKED
    assert 0.85 * ASKED < found["scored"] < 0.95 * ASKED
    assert found["refused"] == []
    value = found["values"]["quality"]["dr"]
    # It sends nearly all to the one who is right nine times in ten.
    assert value["bootstrap"][0] < 0.89 < value["bootstrap"][1]
    assert found["gain"]["quality"]["bootstrap"][0] > 0.15
    assert found["gain"]["cost"]["value"] < 0
    assert "points higher" in found["sentence"]
    assert json.loads((book / "report" / "ope.json").read_text()) == found
    page = (book / "report" / "ope.html").read_text()
    assert "doubly robust (the verdict rests on it)" in page
    assert "<svg" in page


def test_a_configured_policy_is_judged_with_its_own_propensities(
    book: Path, candidate: Router
) -> None:
    words = (
        "ope",
        "--router",
        f"default@{candidate.version}",
        "--config",
        str(book / "config.yaml"),
    )
    found = json.loads(
        run(*words, "--policy", "careful", "--report", str(book / "careful"), "--json").stdout
    )
    assert found["candidate"].endswith(" under careful")
    # Nobody is left out, and nobody gets nearly all.
    assert min(found["share"].values()) > 0.15
    assert max(found["share"].values()) < 0.6
    points = {each["setting"]: each for each in found["policies"]}
    assert sorted(points) == ["balanced", "best", "careful", "cheap"]
    value = found["values"]["quality"]["dr"]["value"]
    assert points["careful"]["quality"]["value"] == pytest.approx(value)
    assert points["best"]["quality"]["value"] > value + 0.1
    page = (book / "careful" / "ope.html").read_text()
    assert "Under each named policy" in page
    with pytest.raises(OffPolicyError, match="no policy 'x'; there are balanced, best, careful"):
        run(*words, "--policy", "x")


def test_people_are_shown_gains_with_their_intervals(book: Path, candidate: Router) -> None:
    told = run(
        "ope", "--router", f"default@{candidate.version}", "--config", str(book / "config.yaml")
    )
    assert "95 % interval" in told.stdout
    assert "at fixed cost weights" in told.stdout
    assert "had all asked for one policy" in told.stdout
    assert "would score" in told.stdout


def test_the_log_of_one_that_hardly_explored_can_not_tell(
    tmp_path: Path, candidate: Router, book: Path
) -> None:
    rng = np.random.default_rng(3)
    url = f"sqlite:///{tmp_path}/ledger.db"
    fill(url, Questions.draw(150, rng), rng, epsilon=0.0)
    with pytest.raises(OffPolicyError, match=r"Nothing can be said of default@.* had no chance"):
        run(
            "ope", "--router", f"default@{candidate.version}",
            "--config", str(book / "config.yaml"), "--ledger", url,
        )  # fmt: skip


def test_a_ledger_without_prompts_says_what_to_change(tmp_path: Path, book: Path) -> None:
    rng = np.random.default_rng(4)
    url = f"sqlite:///{tmp_path}/ledger.db"
    fill(url, Questions.draw(5, rng), rng, text="hash")
    with opened(url) as engine, pytest.raises(NothingToLearnError, match=r"ledger\.text"):
        history(engine, "default")


def test_decisions_come_with_who_could_serve_and_what_each_wanted(book: Path) -> None:
    with opened(f"sqlite:///{book}/ledger.db") as engine:
        found, prices = history(engine, "default"), latest_prices(engine)
    assert found.logged.table.experts == EXPERTS
    assert found.logged.eligible_NA.all()
    np.testing.assert_allclose(found.logged.logged_NA.sum(axis=1), 1)
    assert len(found.preferences) == len(found.at_N) == ASKED
    assert (np.diff(found.at_N) >= 0).all()
    assert {name: prices[name] for name in EXPERTS} == {c.expert_id: c.prices for c in CARDS}


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("--router", "default"), "must look like NAME@VERSION"),
        (("--router", "default@zzz"), "no version 'zzz'"),
    ],
)
def test_a_router_that_is_not_there_is_named(
    book: Path, words: tuple[str, ...], fault: str
) -> None:
    with pytest.raises(ConfigError, match=fault):
        run("ope", *words, "--config", str(book / "config.yaml"))


def test_a_day_that_is_none_is_refused(book: Path, candidate: Router) -> None:
    with pytest.raises(ConfigError, match="'soon' is no day"):
        run(
            "ope", "--router", f"default@{candidate.version}", "--since", "soon",
            "--config", str(book / "config.yaml"),
        )  # fmt: skip
