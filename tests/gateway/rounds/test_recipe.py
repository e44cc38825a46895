"""Recipes of drivers: what they say holds together, and TRL takes it; on a small model they run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from experts.base import Expert
from experts.cards import Prices
from experts.fakes.provider import FakeProvider, Reply
from gateway.errors import ConfigError
from gateway.rounds.endpoint_pool import EndpointPool
from gateway.settings.rounds_recipe import RoundsRecipe, read_recipe
from routers.rounds.episodes import Question
from routers.rounds.reward import Paid
from routers.rounds.squad import exact_match

ROOT = Path(__file__).parents[3]
RECIPES = sorted((ROOT / "config" / "recipes").glob("*.yaml"))
PUBLISHED = ROOT / "config" / "recipes" / "router-r1-qwen2.5-3b.yaml"
Serve = Callable[..., Any]
Remote = Callable[..., Expert]


def test_the_published_recipe_says_what_was_published() -> None:
    recipe = read_recipe(PUBLISHED)
    rule, limits = recipe.rule(), recipe.limits
    assert rule.words.route == "search"
    assert rule.outcome is exact_match
    assert rule.colons
    assert rule.charge == 0
    assert (limits.rounds, limits.prompt_tokens, limits.turn_tokens) == (4, 4096, 1024)
    assert (limits.information_tokens, limits.reply_tokens) == (600, 512)
    assert {each.usd_per_mtok for each in recipe.pool} == {0.3, 0.88, 0.18, 0.2, 1.2, 0.8}
    grpo = recipe.grpo
    assert (grpo["learning_rate"], grpo["beta"], grpo["epsilon"]) == (1e-6, 0.001, 0.2)
    assert (grpo["entropy_coef"], grpo["temperature"], grpo["max_steps"]) == (0.001, 1.0, 225)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_groups_divide_batches_and_conversations_fit(path: Path) -> None:
    recipe = read_recipe(path)
    grpo, limits = recipe.grpo, recipe.limits
    update = grpo["per_device_train_batch_size"] * grpo["gradient_accumulation_steps"]
    assert grpo["generation_batch_size"] % update == 0
    assert grpo["generation_batch_size"] % grpo["num_generations"] == 0
    assert grpo["generation_batch_size"] // grpo["num_generations"] == 64, "questions a batch"
    assert update // grpo["num_generations"] == 32, "questions an update"
    assert limits.most == 5 * limits.turn_tokens + 4 * limits.information_tokens
    assert grpo["vllm_max_model_length"] >= limits.prompt_tokens + limits.most


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_trl_knows_every_setting(path: Path) -> None:
    trl_grpo = pytest.importorskip("trl.trainer.grpo_config", reason="needs the extra `rl`")
    trl_sft = pytest.importorskip("trl.trainer.sft_config")
    recipe = read_recipe(path)
    assert set(recipe.grpo) <= {field.name for field in fields(trl_grpo.GRPOConfig)}
    assert set(recipe.warm) <= {field.name for field in fields(trl_sft.SFTConfig)}


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    data = yaml.safe_load(PUBLISHED.read_text())
    path = tmp_path / "recipe.yaml"
    data["reward"]["alpha"] = 2
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError, match=r"reward\.alpha: must be ≤ 1"):
        read_recipe(path)
    data["reward"]["alpha"], data["limits"]["rounds"] = 0.5, 9
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError, match="vllm_max_model_length: is 11616, and conversations"):
        read_recipe(path)


def test_a_pool_behind_a_gateway_is_asked_and_booked(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    provider.otherwise = Reply("Lima")
    served = serve({"atlas": remote("atlas", provider.url, Prices(1, 3))})
    pool = EndpointPool(f"{served.url}/v1", {"atlas": 3.0, "gone": 1.0})
    row = {"question": "q", "answers": ["Lima"]}
    asked = [Question(row, name, "capital: of Peru?") for name in ("atlas", "gone", "atlas")]
    told, missing, again = pool.ask(asked)
    assert told == again
    assert told is not None
    assert told.text == "Lima"
    assert told.paid == Paid(2, 3.0)
    assert missing is None
    assert len(pool.failures) == 1
    assert "gone" in pool.failures[0]
    assert served.totals()["requests"] == 2
    assert provider.bodies[-1]["messages"][-1]["content"] == "capital: of Peru?"


def small_version(tmp_path: Path) -> RoundsRecipe:
    """The published recipe with a model that a CPU can train, and batches to match."""
    from eval.rounds.policy import small_policy, small_tokenizer

    tokenizer = small_tokenizer()
    small_policy(tokenizer, 0, width=32, layers=1).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    data = yaml.safe_load(PUBLISHED.read_text())
    data["model"] = str(tmp_path / "model")
    data["limits"] |= {"rounds": 1, "turn_tokens": 16}
    vllm = {name: value for name, value in data["grpo"].items() if not name.startswith("vllm_")}
    cpu = {"use_vllm": False, "bf16": False, "use_cpu": True, "gradient_checkpointing": False}
    few = {"generation_batch_size": 8, "per_device_train_batch_size": 4, "num_generations": 4}
    data["grpo"] = {**vllm, **cpu, **few, "gradient_accumulation_steps": 1, "max_steps": 2}
    data["warm"] |= {"bf16": False, "use_cpu": True, "max_steps": 1, "report_to": "none"}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(data))
    return read_recipe(tmp_path / "recipe.yaml")


@pytest.mark.slow
def test_the_recipe_runs_on_a_small_model(
    serve: Serve, remote: Remote, provider: FakeProvider, tmp_path: Path
) -> None:
    pytest.importorskip("trl", reason="needs the extra `rl`")
    recipe = small_version(tmp_path)
    served = serve({each.id: remote(each.id, provider.url) for each in recipe.pool})
    rows = [{"question": f"capital of {name}", "answers": ["lima"]} for name in ("peru", "cuba")]
    trace = "<think>capital</think><answer>lima</answer>"
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "traces.jsonl").write_text(json.dumps({**rows[0], "transcript": trace}))
    command = [
        *(sys.executable, "-m", "gateway.cli.main", "rounds", "train"),
        *("--recipe", str(tmp_path / "recipe.yaml"), "--endpoint", f"{served.url}/v1"),
        *("--questions", str(tmp_path / "questions.jsonl")),
        *("--traces", str(tmp_path / "traces.jsonl"), "--out", str(tmp_path / "out")),
    ]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    steps = (tmp_path / "out" / "steps.jsonl").read_text().splitlines()
    assert len(steps) == 1, "one batch of conversations serves both updates"
    assert -1 <= json.loads(steps[0])["reward"] <= 1
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (tmp_path / "out" / "policy" / name).exists()


@pytest.mark.gpu
@pytest.mark.slow
def test_the_published_recipe_starts_on_an_accelerator(
    serve: Serve, remote: Remote, provider: FakeProvider, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("vllm")
    if not torch.cuda.is_available():
        pytest.skip("needs an accelerator")
    data = yaml.safe_load(PUBLISHED.read_text())
    data["grpo"] |= {"max_steps": 1}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(data))
    rows = [{"question": f"Capital of country {n}?", "answers": ["Lima"]} for n in range(64)]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    served = serve({each["id"]: remote(each["id"], provider.url) for each in data["pool"]})
    command = [
        *(sys.executable, "-m", "gateway.cli.main", "rounds", "train"),
        *("--recipe", str(tmp_path / "recipe.yaml"), "--endpoint", f"{served.url}/v1"),
        *("--questions", str(tmp_path / "questions.jsonl"), "--out", str(tmp_path / "out")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "out" / "policy" / "config.json").exists()
