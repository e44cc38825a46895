"""A tiny model really learns from exported answers, and what can't be tuned is told."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experts.errors import ExpertConfigError
from experts.weights.finetune import read_examples, tune
from gateway.errors import ConfigError
from tests.commands import run

TINY = """
import sys
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

torch.manual_seed(0)
words = sys.argv[2].split()
vocabulary = {word: n for n, word in enumerate(["<unk>", "<eos>", *words])}
tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<eos>", pad_token="<eos>"
).save_pretrained(sys.argv[1])
config = LlamaConfig(
    vocab_size=len(vocabulary), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=128,
    bos_token_id=1, eos_token_id=1, pad_token_id=1,
    # Nothing but the adapter learns, so words must be told apart from the start.
    initializer_range=0.3,
)
LlamaForCausalLM(config).save_pretrained(sys.argv[1])
"""


def example(asked: str, said: str, licence: str | None = "apache-2.0") -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": asked}],
        "completion": [{"role": "assistant", "content": said}],
        "licence": licence,
    }


def pair(topic: str, wish: str, likes: Mapping[str, str]) -> dict[str, Any]:
    better = likes[wish]
    (worse,) = set(likes.values()) - {better}
    return {
        "prompt": [{"role": "user", "content": f"say it {wish} about {topic} ?"}],
        "chosen": [{"role": "assistant", "content": f"{better} answer"}],
        "rejected": [{"role": "assistant", "content": f"{worse} answer"}],
        "licences": ["apache-2.0", None],
    }


def python(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, timeout=1800
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_loss_falls_and_the_adapter_can_be_loaded(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    base, out, data = tmp_path / "base", tmp_path / "adapter", tmp_path / "sft.jsonl"
    ways = [f"way{number}" for number in range(12)]
    words = ["user assistant : lima peru oslo norway capital of ?", *ways]
    python("-c", TINY, str(base), " ".join(words))
    rows = [
        *(example(f"{way} capital of peru ?", "lima") for way in ways),
        *(example(f"{way} capital of norway ?", "oslo", licence=None) for way in ways),
    ] * 3
    data.write_text("\n".join(map(json.dumps, rows)))
    told = python(
        *("-m", "gateway.cli.main", "experts", "tune", "--base", str(base), "--sft", str(data)),
        *("--out", str(out), "--learning-rate", "0.02", "--epochs", "3", "--batch", "8", "--json"),
    )
    tuned = json.loads(told)
    assert (tuned["examples"], tuned["held_out"]["examples"]) == (66, 6)
    assert tuned["licences"] == ["apache-2.0", "unknown"]
    assert len(tuned["losses"]) == 27
    assert tuned["losses"][-1] < 0.7 * tuned["losses"][0]
    assert tuned["held_out"]["loss"] < 0.7 * tuned["held_out"]["loss_before"]
    assert tuned["held_out"]["margin"] is None
    about = json.loads((out / "pointsman.json").read_text())
    assert about["losses"] == tuned["losses"]
    said = python("-c", _ANSWERS, str(base), str(out))
    assert said.split() == ["lima", "oslo"]


_ANSWERS = """
import sys
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(sys.argv[1]), sys.argv[2])
for country in ("peru", "norway"):
    asked = tokenizer(f"user : capital of {country} ? assistant :", return_tensors="pt")
    asked.pop("token_type_ids", None)
    wrote = model.generate(**asked, max_new_tokens=1, do_sample=False)
    print(tokenizer.decode(wrote[0][-1:]))
"""


@pytest.mark.slow
def test_a_planted_preference_is_learned_for_topics_never_seen(tmp_path: Path) -> None:
    """Which of two answers is better follows from the wish; of three seeds each must learn it."""
    pytest.importorskip("trl")
    base, topics = tmp_path / "base", [f"topic{number}" for number in range(60)]
    python("-c", TINY, str(base), " ".join([_WORDS, *topics]))
    likes = {"briefly": "short", "fully": "long"}
    rows = [pair(topic, wish, likes) for topic in topics[:45] for wish in likes]
    new = [pair(topic, wish, likes) for topic in topics[45:] for wish in likes]
    for name, some in {"pairs": rows, "new": new}.items():
        (tmp_path / name).write_text("\n".join(map(json.dumps, some)))
    told = python("-c", _PREFERRING, str(tmp_path), "0", "1", "2")
    seeds = [json.loads(line) for line in told.splitlines()]
    assert len(seeds) == 3
    for each in seeds:
        tuned = each["tuned"]
        assert (tuned["examples"], tuned["held_out"]["examples"]) == (81, 9)
        assert tuned["licences"] == ["apache-2.0", "unknown"]
        assert tuned["held_out"]["loss_before"] == pytest.approx(math.log(2), abs=1e-4)
        assert tuned["held_out"]["margin"] > 5
        before, after = np.array(each["before"]), np.array(each["after"])
        assert np.mean(after - before) > 5, "nats by which the chosen answer gained"
        assert np.mean(before > 0) == pytest.approx(0.5, abs=0.2)
        assert np.mean(after > 0) > 0.9, "the chosen answer is the likelier one"


_WORDS = "user assistant : say it briefly fully about ? short long answer"

# Tunes by the command, and measures by means of its own: the log-probability of either answer.
_PREFERRING = """
import json, sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from gateway.cli.main import app

folder = Path(sys.argv[1])
base = str(folder / "base")
tokenizer = AutoTokenizer.from_pretrained(base)
pairs = [json.loads(line) for line in (folder / "new").read_text().splitlines()]

def log_probability(model, asked, said):
    words = tokenizer(f"user : {asked} assistant : {said}", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logits = model(input_ids=words).logits.log_softmax(-1)
    of_words = logits[0, :-1].gather(1, words[0, 1:, None])[:, 0]
    return float(of_words[-len(said.split()):].sum())

def margins(model):
    return [
        log_probability(model, pair["prompt"][0]["content"], pair["chosen"][0]["content"])
        - log_probability(model, pair["prompt"][0]["content"], pair["rejected"][0]["content"])
        for pair in pairs
    ]

for seed in sys.argv[2:]:
    out = str(folder / f"adapter{seed}")
    words = ["experts", "tune", "--base", base, "--preferences", str(folder / "pairs")]
    words += ["--out", out, "--learning-rate", "0.005", "--epochs", "3", "--batch", "12"]
    told = CliRunner().invoke(app, [*words, "--seed", seed, "--json"], catch_exceptions=False)
    model = AutoModelForCausalLM.from_pretrained(base)
    before = margins(model)
    after = margins(PeftModel.from_pretrained(model, out))
    print(json.dumps({"tuned": json.loads(told.stdout), "before": before, "after": after}))
"""


def test_one_file_teaches_at_a_time(tmp_path: Path) -> None:
    place = ["--base", str(tmp_path), "--out", str(tmp_path / "out")]
    for given in ([], ["--sft", "a.jsonl", "--preferences", "b.jsonl"]):
        with pytest.raises(ConfigError, match="one of --sft FILE and --preferences FILE"):
            run("experts", "tune", *place, *given)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "can't be read"),
        ("", "holds no examples"),
        ("{", "line 1 is no JSON"),
        ('{"prompt": []}', "line 1 needs `prompt` and `completion`"),
    ],
    ids=["absent", "empty", "broken", "other"],
)
def test_a_file_that_is_none_of_ours_is_refused(
    tmp_path: Path, content: str | None, message: str
) -> None:
    path = tmp_path / "sft.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ExpertConfigError, match=message):
        read_examples(path)


def test_nothing_is_written_over_and_a_base_must_be_a_model(tmp_path: Path) -> None:
    with pytest.raises(ExpertConfigError, match="exists; choose another"):
        tune(tmp_path, [], tmp_path)
    with pytest.raises(ExpertConfigError, match=r"no config\.json"):
        tune(tmp_path, [], tmp_path / "out")
