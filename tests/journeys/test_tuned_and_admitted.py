"""A model tuned on good answers is served, graded and admitted: `auto` asks it where it is good."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.engines.local import NO_ENGINES
from gateway.running import background_server, make_app
from gateway.settings.load import load_settings
from tests.commands import run
from tests.experts.weights.test_finetune import TINY, example, python
from tests.journeys.test_rounds_learned_and_served import transformers_serving

pytestmark = pytest.mark.slow
CAPITALS = {"peru": "lima", "norway": "oslo"}
WAYS = [f"way{number}" for number in range(40)]

# Servers that know no adapters are given both in one; and the base has no chat template yet.
_TUNE = """
import sys
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from gateway.cli.main import app

base, data, adapter, merged = sys.argv[1:]
words = ["experts", "tune", "--base", base, "--sft", data, "--out", adapter]
words += ["--learning-rate", "0.02", "--epochs", "3", "--batch", "8"]
told = CliRunner().invoke(app, words, catch_exceptions=False)
assert told.exit_code == 0, told.output
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
model.merge_and_unload().save_pretrained(merged)
for folder in (base, merged):
    AutoTokenizer.from_pretrained(adapter).save_pretrained(folder)
"""


def prompts_in(path: Path, ways: list[str], first: int) -> Path:
    """As many sums as questions for capitals."""
    asked = [
        (f"{way} capital of {country} ?", city)
        for way in ways
        for country, city in CAPITALS.items()
    ]
    asked += [
        (f"What is {n} + {2 * n + 1}?", str(3 * n + 1)) for n in range(first, first + 2 * len(ways))
    ]
    lines = [
        {"query_id": text, "prompt": text, "check": {"kind": "mentions", "answers": [answer]}}
        for text, answer in asked
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def config_in(folder: Path, endpoint: str) -> Path:
    models = [
        {
            "id": name,
            "base_url": endpoint,
            "model": str(folder / name),
            "prices": {"input": 1, "output": 1},
        }
        for name in ("base", "tuned")
    ]
    settings: dict[str, Any] = {
        "experts": [*models, {"kind": "calculator"}],
        "ledger": {"url": f"sqlite:///{folder}/ledger.db", "text": "full"},
        "data_dir": str(folder / "data"),
        # A machine that is busy is no reason to ask somebody else.
        "limits": dict.fromkeys(("failover_s", "failover_whole_s", "header_s", "whole_s"), 90),
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(settings))
    return path


def test_a_tuned_model_is_asked_where_its_graded_answers_say_that_it_is_good(
    tmp_path: Path,
) -> None:
    pytest.importorskip("trl", reason="needs the extra `rl`")
    base, data = tmp_path / "base", tmp_path / "sft.jsonl"
    python(
        "-c",
        TINY,
        str(base),
        " ".join(["user assistant : lima peru oslo norway capital of ?", *WAYS]),
    )
    rows = [
        example(f"{way} capital of {country} ?", city)
        for way in WAYS[:12]
        for country, city in CAPITALS.items()
    ]
    data.write_text("\n".join(map(json.dumps, rows * 3)))
    python("-c", _TUNE, str(base), str(data), str(tmp_path / "adapter"), str(tmp_path / "tuned"))
    with transformers_serving(base) as endpoint:
        config = config_in(tmp_path, endpoint)
        place = ("--max-tokens", "3", "--config", str(config))
        old, new = tmp_path / "old.parquet", tmp_path / "new.parquet"
        first = prompts_in(tmp_path / "old.jsonl", WAYS[12:24], 100)
        run(
            "collect",
            "--prompts",
            str(first),
            "--experts",
            "base,calculator",
            "--out",
            str(old),
            *place,
        )
        learned = ("--data", str(old), "--epsilon", "0", "--promote", "--config", str(config))
        run("train", *learned)
        probes = prompts_in(tmp_path / "new.jsonl", WAYS[24:36], 200)
        run("collect", "--prompts", str(probes), "--experts", "tuned", "--out", str(new), *place)
        admitted = ("--expert", "tuned", "--probes", str(new), "--promote", "--config", str(config))
        run("routers", "admit", "default", *admitted)
        app = make_app(load_settings(config), NO_ENGINES, seed=0)
        with background_server(app) as url:
            assert asked(url, "way38 capital of peru ?") == ("tuned", "lima")
            assert asked(url, "way39 capital of norway ?") == ("tuned", "oslo")
            assert asked(url, "What is 300 + 7?") == ("calculator", "307")


def asked(url: str, text: str) -> tuple[str, str]:
    """Who answered, and what."""
    body = {"model": "auto", "messages": [{"role": "user", "content": text}], "max_tokens": 3}
    answer = httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=120, trust_env=False)
    assert answer.status_code == 200, answer.text
    said = answer.json()["choices"][0]["message"]["content"]
    return answer.headers["x-pointsman-expert"], said.strip()
