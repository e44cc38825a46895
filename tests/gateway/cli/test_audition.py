"""Experts are auditioned by a command: from a file, or what `collect` wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experts.fakes.provider import FakeProvider, Reply
from gateway.errors import ConfigError
from tests.commands import run


@pytest.fixture
def graded(tmp_path: Path) -> Path:
    """A guesser and a solver that were right equally often, and one who knows the other task."""
    path = tmp_path / "graded.csv"
    lines = ["query_id,task,prompt,model,score,nll"]
    for row in range(8):
        right = int(row % 2 == 0)
        lines.append(f"a{row},maths,sum {row},guesser,{right},1.386")
        lines.append(f"a{row},maths,sum {row},solver,{right},0.1")
        lines.append(f"b{row},law,case {row},lawyer,1,0.2")
        lines.append(f"b{row},law,case {row},solver,0,")
    path.write_text("\n".join(lines))
    return path


def test_the_solver_is_taken_and_the_guesser_is_not(graded: Path) -> None:
    shown = run("experts", "audition", "--data", str(graded), "--task", "maths")
    assert "take solver" in shown.stdout
    assert "guesser" not in shown.stdout.splitlines()[-1]
    told = json.loads(run("experts", "audition", "--data", str(graded), "--json").stdout)
    assert set(told["chosen"]) == {"solver", "lawyer"}
    assert told["experts"]["guesser"]["doubt"] == pytest.approx(1.386)


def test_an_audition_needs_one_source() -> None:
    with pytest.raises(ConfigError, match="one of --data FILE and --ledger URL"):
        run("experts", "audition")


def test_a_collection_notes_how_sure_each_answer_was_in_its_file_and_in_the_ledger(
    tmp_path: Path, provider: FakeProvider
) -> None:
    tokens = [{"token": "He", "logprob": -0.5}, {"token": "llo", "logprob": -1.0}]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "Hello"},
        "finish_reason": "stop",
        "logprobs": {"content": tokens},
    }
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    provider.otherwise = Reply(whole={"choices": [choice], "usage": usage})
    config, prompts = tmp_path / "config.yaml", tmp_path / "prompts.jsonl"
    content = {
        "experts": [{"id": "small", "base_url": provider.url}, {"kind": "calculator"}],
        "ledger": {"url": f"sqlite:///{tmp_path}/own.db"},
        "data_dir": str(tmp_path / "data"),
        "server": {"port": 9},
    }
    config.write_text(json.dumps(content))
    check = {"kind": "mentions", "answers": ["Hello"]}
    asked = [{"query_id": f"q{n}", "prompt": f"{n} + {n}", "check": check} for n in range(3)]
    prompts.write_text("\n".join(map(json.dumps, asked)))
    out = tmp_path / "answers.parquet"
    words = ["--prompts", str(prompts), "--out", str(out), "--config", str(config)]
    run("collect", *words, "--logprobs")
    assert all(body["logprobs"] is True for body in provider.bodies)
    told = json.loads(run("experts", "audition", "--data", str(out), "--json").stdout)
    assert told["experts"]["small"]["doubt"] == pytest.approx(0.75)
    assert told["experts"]["calculator"]["doubt"] is None
    assert told["chosen"] == ["small"]
    ledger = ("--ledger", f"sqlite:///{tmp_path}/own.db")
    assert json.loads(run("experts", "audition", *ledger, "--json").stdout) == told
