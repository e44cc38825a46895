"""A tiny model really learns from exported answers, and what can't be tuned is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from experts.errors import ExpertConfigError
from experts.finetune import read_examples, tune

_TINY = """
import sys
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

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


def python(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_loss_falls_and_the_adapter_can_be_loaded(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    base, out, data = tmp_path / "base", tmp_path / "adapter", tmp_path / "sft.jsonl"
    python("-c", _TINY, str(base), "user assistant : lima peru oslo norway capital of ?")
    rows = [
        example("capital of peru ?", "lima"),
        example("capital of norway ?", "oslo", licence=None),
    ] * 32
    data.write_text("\n".join(map(json.dumps, rows)))
    told = python(
        *("-m", "gateway.cli.main", "experts", "tune", "--base", str(base), "--sft", str(data)),
        *("--out", str(out), "--learning-rate", "0.02", "--epochs", "3", "--batch", "8", "--json"),
    )
    tuned = json.loads(told)
    assert tuned["examples"] == 64
    assert tuned["licences"] == ["apache-2.0", "unknown"]
    assert len(tuned["losses"]) == 24
    assert tuned["losses"][-1] < 0.7 * tuned["losses"][0]
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
