"""`compose fit` writes an entry that the gateway serves, and a judge that it loads."""

from __future__ import annotations

from pathlib import Path

import anyio
import numpy as np
import orjson
import pytest
import yaml
from typer.testing import CliRunner, Result

from eval.tables.sources import write_outcomes
from experts.cards import ExpertCard, Prices
from experts.compose.alone import answer_alone
from experts.compose.cascade import Cascade
from experts.fakes.scripted import ScriptedExpert, says
from experts.messages import ChatRequest, Message
from gateway.cli import compose
from gateway.cli.main import app
from gateway.pool.composing import Composer
from gateway.pool.learned_signals import load_scorer
from gateway.settings.composed import ChooseSettings
from gateway.settings.compositions import MixtureSettings
from gateway.settings.root import Settings
from routers.errors import ArtifactError


def run(*words: str, command: str = "fit") -> Result:
    return CliRunner().invoke(app, ["compose", command, *words])


def graded(count: int, path: Path) -> Path:
    """Who hedges is wrong."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        for model, cost, good in (("small", 0.001, 0.6), ("large", 0.01, 0.95)):
            right = bool(rng.uniform() < good)
            words = "It is" if right else "Perhaps, I am not sure,"
            rows.append({
                "query_id": f"q{number:03d}", "task": None, "prompt": f"How much is {number} + 1?",
                "model": model, "score": float(right), "cost_usd": cost,
                "response": f"{words} {number + right}.",
            })  # fmt: skip
    return write_outcomes(rows, path)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return graded(80, tmp_path_factory.mktemp("outcomes") / "graded.parquet")


@pytest.fixture(scope="module")
def fitted(outcomes: Path) -> tuple[dict[str, object], Path]:
    out = outcomes.parent / "judge.safetensors"
    told = ("--data", str(outcomes), "--experts", "small,large", "--risk", "0.05")
    found = run(*told, "--out", str(out), "--name", "careful", "--json")
    assert found.exit_code == 0, found.output
    about: dict[str, object] = orjson.loads(found.stdout)
    return about, out


def test_it_says_what_the_cascade_and_each_expert_alone_are_worth(
    fitted: tuple[dict[str, object], Path],
) -> None:
    about, _ = fitted
    assert about["queries"] == 80
    singles = about["experts"]
    assert isinstance(singles, dict)
    assert singles["small"]["cost_usd"] == pytest.approx(0.001)
    assert isinstance(about["quality"], float)
    assert about["quality"] > singles["small"]["quality"] + 0.15
    assert isinstance(about["cost_usd"], float)
    assert about["cost_usd"] < singles["large"]["cost_usd"]


def test_the_entry_is_a_cascade_that_the_gateway_builds(
    fitted: tuple[dict[str, object], Path],
) -> None:
    about, out = fitted
    plain = [{"id": name, "kind": "calculator"} for name in ("small", "large")]
    settings = Settings.model_validate({"experts": [*plain, about["entry"]]})
    experts = {name: ScriptedExpert(ExpertCard(name), says("4")) for name in ("small", "large")}
    built = Composer(settings.experts, experts, lambda: 0.5).build()
    assert isinstance(built["careful"], Cascade)
    scorer = load_scorer(out)
    sure = scorer.score("How much is 7 + 1?", "It is 8.", "small")
    unsure = scorer.score("How much is 7 + 1?", "Perhaps, I am not sure, 7.", "small")
    accept_at = about["entry"]["defer"][0]["accept_at"]  # type: ignore[index]
    assert unsure < accept_at <= sure


def test_what_a_right_answer_is_worth_says_what_to_do_with_each_draft(
    outcomes: Path, tmp_path: Path
) -> None:
    told = ("--data", str(outcomes), "--experts", "small,large", "--worth-usd", "1")
    found = run(*told, "--out", str(tmp_path / "judge"), "--json")
    about = orjson.loads(found.stdout)
    (rule,) = about["entry"]["defer"]
    assert len(rule["actions"]) == 8
    assert set(rule["actions"]) >= {"accept", "defer"}
    assert about["quality"] > about["experts"]["small"]["quality"] + 0.15
    plain = [{"id": name, "kind": "calculator"} for name in ("small", "large")]
    Settings.model_validate({"experts": [*plain, about["entry"]]})
    assert "a goal of its own" in str(run(*told, "--risk", "0.1").exception)


def test_without_json_it_prints_yaml(outcomes: Path, tmp_path: Path) -> None:
    out = tmp_path / "judge.safetensors"
    found = run("--data", str(outcomes), "--experts", "small,large", "--budget-usd", "0.02",
                "--out", str(out))  # fmt: skip
    assert found.exit_code == 0, found.output
    entry = yaml.safe_load(found.stdout)["experts"][0]
    assert entry["kind"] == "cascade"
    assert entry["id"] == "cascade"
    assert "alone" in found.stderr


def test_wrong_wishes_are_refused_in_one_sentence(outcomes: Path) -> None:
    assert "one of --data" in str(run("--experts", "small,large").exception)
    data = ("--data", str(outcomes))
    assert "two different" in str(run(*data, "--experts", "small").exception)
    pair = (*data, "--experts", "small,large")
    assert "weight of a dollar and a budget" in str(run(*pair, command="plan").exception)
    assert "exact, numeric" in str(run(*pair, "--same", "meaning", command="plan").exception)
    assert "one of a budget" in str(run(*data, "--experts", "small,large").exception)


def test_a_plan_asks_on_where_an_answer_looks_wrong(tmp_path: Path) -> None:
    table = graded(240, tmp_path / "graded.parquet")
    files = "--out", str(tmp_path / "plan"), "--scorer", str(tmp_path / "judge")
    told = ("--data", str(table), "--experts", "small,large", "--estimator", "knn+hashing")
    found = run(*told, *files, "--usd-weight", "10", "--json", command="plan")
    assert found.exit_code == 0, found.output
    about = orjson.loads(found.stdout)
    planned, routed = about["planned"], about["routed"]
    assert planned["quality"] > routed["quality"] + 0.02
    assert planned["cost_usd"] < 0.85 * routed["cost_usd"]
    plain = [{"id": name, "kind": "calculator"} for name in ("small", "large")]
    settings = Settings.model_validate({"experts": [*plain, about["entry"]]})
    question = ChatRequest((Message("user", "How much is 7 + 1?"),))
    for said, calls in (("It is 8.", 1), ("Perhaps, I am not sure, 7.", 2)):
        experts = {
            name: ScriptedExpert(
                ExpertCard(name, prices=Prices(0, 0, request=usd), quality_prior=good), says(text)
            )
            for name, usd, good, text in (
                ("small", 0.001, 0.6, said),
                ("large", 0.01, 0.95, "It is 8."),
            )
        }
        built = Composer(settings.experts, experts, lambda: 0.5).build()
        completion, call = anyio.run(answer_alone, built["planned"], question)
        assert completion.text == "It is 8."
        assert call.below.calls == calls


def test_seats_are_fitted_to_what_teams_came_to(outcomes: Path) -> None:
    told = ("--data", str(outcomes), "--experts", "small,large", "--estimator", "knn+hashing")
    assert "NAME=A,B" in str(run(*told, "--team", "duo", command="seats").exception)
    # What both make together is as good here as the large one alone.
    found = run(*told, "--team", "large=small,large", command="seats")
    assert found.exit_code == 0, found.output
    assert MixtureSettings.model_validate(
        {"id": "it", "kind": "mixture", "of": ["small", "large"], **yaml.safe_load(found.stdout)}
    ).choose == ChooseSettings(margin=0.03, mass=0.9)
    assert "default: quality 0.9" in found.stderr


def test_a_judge_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="judge"):
        load_scorer(tmp_path / "judge.safetensors")
    assert compose.commands.registered_commands
