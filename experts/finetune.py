"""Fine-tunes a model on examples from the log: a LoRA adapter through TRL, on CPU if need be.

Source: Feng et al., "FusionFactory: Fusing LLM Capabilities with Multi-LLM Log Data", 2025
(model-level fusion; it came out below the untuned model there, so admit what comes out of it by
measured answers only).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from experts.errors import ExpertConfigError

ABOUT = "pointsman.json"
_PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@dataclass(frozen=True, slots=True)
class TuneRules:
    """How an adapter is trained.

    Attributes:
        rank: Of the adapter's matrices, >= 1; they are scaled by 2.
        learning_rate: At the start; it falls to 0.
        epochs: Times that each example is seen.
        batch: Examples per step.
        max_length: Tokens of prompt and answer together; what is longer is cut.
        seed: Source of all randomness.
    """

    rank: int = 8
    learning_rate: float = 2e-4
    epochs: float = 1.0
    batch: int = 4
    max_length: int = 1024
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Tuned:
    """What came of it.

    Attributes:
        adapter: Its directory, as PEFT and vLLM (`--enable-lora`) read it.
        losses: Mean loss of each logged step, in nats per token of the answers.
        examples: How many there were.
        licences: Of the answers learned from, sorted; "unknown" where a card says none.
    """

    adapter: Path
    losses: tuple[float, ...]
    examples: int
    licences: tuple[str, ...]


def read_examples(path: Path) -> list[dict[str, Any]]:
    """The rows of `pointsman ledger export --sft`.

    Raises:
        ExpertConfigError: The file, and the line that is no example.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ExpertConfigError(f"'{path}' can't be read: {error.strerror}") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise ExpertConfigError(f"'{path}' line {number} is no JSON: {error}") from error
        if not isinstance(row, dict) or not {"prompt", "completion"} <= row.keys():
            raise ExpertConfigError(f"'{path}' line {number} needs `prompt` and `completion`")
        rows.append(row)
    if not rows:
        raise ExpertConfigError(f"'{path}' holds no examples")
    return rows


def tune(
    base: Path,
    examples: Sequence[Mapping[str, Any]],
    out: Path,
    rules: TuneRules = TuneRules(),
    progress: Callable[[str, float], None] = lambda _what, _done: None,
) -> Tuned:
    """Train an adapter for the model in `base` and write it to `out`.

    Only the answers are learned, not the prompts. Nothing is downloaded. Beside the adapter stands
    what it was made of (`pointsman.json`): base, rules, a hash of the examples, their licences.

    Args:
        base: A directory with a causal model and its tokenizer.
        examples: Rows with `prompt` and `completion`, as conversations.
        out: A directory that does not exist yet.
        rules: How.
        progress: Told the step that was done, and the part of all of them.

    Raises:
        ExpertConfigError: The extra is missing, the base is no model, or `out` exists.
    """
    if out.exists():
        raise ExpertConfigError(f"'{out}' exists; choose another directory for the adapter")
    if not (base / "config.json").is_file():
        raise ExpertConfigError(f"'{base}' holds no model: there is no config.json")
    trainer = _trainer(base, examples, out, rules, progress)
    trainer.train()
    trainer.save_model(str(out))
    losses = tuple(float(e["loss"]) for e in trainer.state.log_history if "loss" in e)
    licences = tuple(sorted({str(row.get("licence") or "unknown") for row in examples}))
    about = {
        "base": str(base),
        "rules": asdict(rules),
        "examples": len(examples),
        "examples_sha256": _digest(examples),
        "licences": licences,
        "losses": losses,
    }
    (out / ABOUT).write_bytes(orjson.dumps(about, option=orjson.OPT_INDENT_2))
    return Tuned(out, losses, len(examples), licences)


def _trainer(
    base: Path,
    examples: Sequence[Mapping[str, Any]],
    out: Path,
    rules: TuneRules,
    progress: Callable[[str, float], None],
) -> Any:
    try:
        from datasets import Dataset
        from peft import LoraConfig
        from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
        from trl import SFTConfig, SFTTrainer
    except ImportError as error:
        raise ExpertConfigError(
            "fine-tuning needs the extra: pip install 'pointsman[rl]'"
        ) from error
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    if tokenizer.chat_template is None:
        tokenizer.chat_template = _PLAIN_TEMPLATE
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(base, local_files_only=True)
    rows = [{name: list(row[name]) for name in ("prompt", "completion")} for row in examples]
    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(rows),
        peft_config=LoraConfig(
            r=rules.rank,
            lora_alpha=2 * rules.rank,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
        args=SFTConfig(
            output_dir=str(out.with_name(f".{out.name}-steps")),
            per_device_train_batch_size=rules.batch,
            learning_rate=rules.learning_rate,
            num_train_epochs=rules.epochs,
            max_length=rules.max_length,
            completion_only_loss=True,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            bf16=False,
            gradient_checkpointing=False,
            dataloader_pin_memory=False,
            seed=rules.seed,
        ),
        callbacks=[_callback(progress)],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _callback(progress: Callable[[str, float], None]) -> Any:
    from transformers import TrainerCallback

    class Told(TrainerCallback):  # type: ignore[misc]
        """Passes steps on."""

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            progress(f"step {state.global_step}", state.global_step / max(state.max_steps, 1))

    return Told()


def _digest(examples: Sequence[Mapping[str, Any]]) -> str:
    content = hashlib.sha256()
    for row in examples:
        content.update(orjson.dumps(dict(row), option=orjson.OPT_SORT_KEYS) + b"\n")
    return content.hexdigest()
