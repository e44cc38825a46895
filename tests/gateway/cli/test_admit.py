"""A new expert comes into a published router by a command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import Result

from gateway.errors import ConfigError
from gateway.routing.router_store import RouterStore
from routers.errors import RoutingError
from tests.commands import run


def outcomes(path: Path, experts: tuple[str, ...], rows: int) -> Path:
    """Outcomes in which the expert `good` is always right, the others every second time."""
    lines = ["query_id,task,prompt,model,score,completion_tokens"]
    for row in range(rows):
        for place, expert in enumerate(experts):
            score = 1 if expert == "good" else (row + place) % 2
            lines.append(f"q{row},t{row % 3},word {row % 7} number {row},{expert},{score},9")
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    experts = [{"id": "small", "base_url": "http://127.0.0.1:9"}]
    path.write_text(json.dumps({"experts": experts, "data_dir": str(tmp_path / "data")}))
    return path


@pytest.fixture
def trained(config: Path, tmp_path: Path) -> RouterStore:
    """A router of two experts, published and promoted."""
    table = outcomes(tmp_path / "old.csv", ("small", "large"), 120)
    run("train", "--data", str(table), "--estimator", "ridge", "--promote", "--config", str(config))
    return RouterStore(tmp_path / "data" / "routers")


def admit(config: Path, *words: str) -> Result:
    return run("routers", "admit", "default", *words, "--config", str(config))


def test_an_expert_is_admitted_in_a_version_of_its_own(
    trained: RouterStore, config: Path, tmp_path: Path
) -> None:
    probes = outcomes(tmp_path / "new.csv", ("good", "small"), 60)
    before = trained.promoted("default")
    assert before is not None
    words = ("--expert", "good", "--probes", str(probes))
    told = json.loads(admit(config, *words, "--promote", "--json").stdout)
    after = trained.promoted("default")
    assert after is not None
    assert told == {
        "router": "default", "version": after.version, "probes": 60, "promoted": True,
    }  # fmt: skip
    assert after.version != before.version
    old, new = (trained.load("default", each.version) for each in (before, after))
    asked = [f"word {n} number {n}" for n in range(20)]
    expected, found = old.estimate(asked), new.estimate(asked)
    assert found.experts == ("good", "large", "small")
    assert (found.quality_NA[:, 0] > found.quality_NA[:, 1:].max(axis=1)).all()
    assert (found.quality_NA[:, 1:] == expected.quality_NA).all()
    metadata = new.metadata
    assert metadata["experts"] == ["good", "large", "small"]
    assert metadata["wrappers"] == ["safe"]
    (admission,) = metadata["admitted"]
    assert (admission["expert"], admission["probes"]) == ("good", 60)
    assert admission["into"] == before.version
    # The same probes into the same version are the same version.
    again = admit(config, *words, "--version", before.version, "--json")
    assert json.loads(again.stdout)["version"] == after.version


def test_few_probes_are_told_and_a_second_newcomer_joins_the_first(
    trained: RouterStore, config: Path, tmp_path: Path
) -> None:
    few = outcomes(tmp_path / "few.csv", ("good",), 10)
    told = admit(config, "--expert", "good", "--probes", str(few), "--promote")
    assert "10 graded answers are few: good will hardly be chosen before 25" in told.stderr
    assert "now serves" in told.stdout
    more = outcomes(tmp_path / "more.csv", ("other",), 30)
    admit(config, "--expert", "other", "--probes", str(more), "--promote")
    serving = trained.promoted("default")
    assert serving is not None
    metadata = trained.load("default", serving.version).metadata
    assert metadata["experts"] == ["good", "large", "other", "small"]
    assert metadata["wrappers"] == ["safe"]
    assert [each["expert"] for each in metadata["admitted"]] == ["good", "other"]


def test_what_cannot_be_admitted_is_one_sentence(
    trained: RouterStore, config: Path, tmp_path: Path
) -> None:
    probes = str(outcomes(tmp_path / "new.csv", ("good",), 30))
    with pytest.raises(RoutingError, match="no outcome of expert 'best', only of good"):
        admit(config, "--expert", "best", "--probes", probes)
    old = str(outcomes(tmp_path / "old.csv", ("small",), 30))
    with pytest.raises(RoutingError, match="expert 'small' is known already"):
        admit(config, "--expert", "small", "--probes", old)
    with pytest.raises(ConfigError, match="needs one of --probes FILE and --ledger URL"):
        admit(config, "--expert", "good")
    with pytest.raises(ConfigError, match="no version of router 'other' serves"):
        run("routers", "admit", "other", "--expert", "good", "--probes", probes, "--config",
            str(config))  # fmt: skip
