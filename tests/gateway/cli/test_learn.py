"""A published router learns on by a command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import Result

from gateway.errors import ConfigError
from gateway.routing.router_store import RouterStore
from routers.errors import RoutingError, TableError
from tests.commands import run


def outcomes(path: Path, right: dict[str, bool], rows: int, first: int = 0) -> Path:
    """Outcomes in which every expert is always right or always wrong."""
    lines = ["query_id,prompt,model,score,completion_tokens"]
    for row in range(first, first + rows):
        for expert, is_right in right.items():
            lines.append(f"q{row},word {row % 7} number {row},{expert},{int(is_right)},9")
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    experts = [{"id": "small", "base_url": "http://127.0.0.1:9"}]
    path.write_text(json.dumps({"experts": experts, "data_dir": str(tmp_path / "data")}))
    return path


def trained(config: Path, tmp_path: Path, estimator: str) -> RouterStore:
    table = outcomes(tmp_path / "old.csv", {"small": True, "large": False}, 80)
    words = ["--data", str(table), "--estimator", estimator, "--config", str(config)]
    run("train", *words, "--promote")
    return RouterStore(tmp_path / "data" / "routers")


def learn(config: Path, data: Path, *words: str) -> Result:
    return run("routers", "learn", "default", "--data", str(data), *words, "--config", str(config))


@pytest.mark.parametrize("estimator", ["linucb", "thompson", "online"])
def test_what_it_learns_is_a_version_of_its_own(
    config: Path, tmp_path: Path, estimator: str
) -> None:
    store = trained(config, tmp_path, estimator)
    before = store.promoted("default")
    assert before is not None
    # Only one of the two was asked, and the table knows of no other.
    new = outcomes(tmp_path / "new.csv", {"small": False}, 300, first=100)
    told = json.loads(learn(config, new, "--promote", "--json").stdout)
    after = store.promoted("default")
    assert after is not None
    assert told == {
        "router": "default", "version": after.version, "queries": 300, "promoted": True,
    }  # fmt: skip
    old, learned = (store.load("default", each.version) for each in (before, after))
    asked = [f"word {n} number {900 + n}" for n in range(7)]
    assert (old.estimate(asked).quality_NA[:, 1] > 0.8).all()
    assert (learned.estimate(asked).quality_NA[:, 1] < 0.5).all()
    assert learned.estimate(asked).experts == ("large", "small")
    (lesson,) = learned.metadata["learned"]
    assert (lesson["rows"], lesson["scores"], lesson["after"]) == (300, 300, before.version)
    assert (learned.metadata["rows"], learned.metadata["scores"]) == (380, 460)
    assert learned.metadata["calibrated"] is False
    # The same outcomes on the same version are the same version.
    again = learn(config, new, "--version", before.version, "--json")
    assert json.loads(again.stdout)["version"] == after.version


def test_it_learns_from_no_file_twice(config: Path, tmp_path: Path) -> None:
    trained(config, tmp_path, "linucb")
    new = outcomes(tmp_path / "new.csv", {"small": False}, 30, first=100)
    learn(config, new, "--promote")
    for known in (new, tmp_path / "old.csv"):
        with pytest.raises(TableError, match="has learned from these very outcomes already"):
            learn(config, known)


def test_what_can_not_learn_on_is_told(config: Path, tmp_path: Path) -> None:
    new = outcomes(tmp_path / "new.csv", {"small": False}, 30, first=100)
    trained(config, tmp_path, "ridge")
    with pytest.raises(RoutingError, match="the estimator 'calibrated', which can't learn on"):
        learn(config, new)
    trained(config, tmp_path, "linucb")
    strange = outcomes(tmp_path / "strange.csv", {"small": True, "zoe": True}, 30)
    with pytest.raises(TableError, match=r"doesn't know zoe; .* train it anew"):
        learn(config, strange)
    with pytest.raises(ConfigError, match="needs one of --data FILE and --ledger URL"):
        run("routers", "learn", "default", "--config", str(config))
