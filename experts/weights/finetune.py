"""Fine-tunes a model on the log: a LoRA adapter through TRL, on CPU if need be.

Sources: Feng et al., "FusionFactory: Fusing LLM Capabilities with Multi-LLM Log Data", 2025
(model-level fusion; it came out below the untuned model there, so admit what comes out of it by
measured answers only); Rafailov et al., "Direct Preference Optimization: Your Language Model is
Secretly a Reward Model", 2023 (pairs).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from experts.errors import ExpertConfigError

ABOUT = "pointsman.json"
_PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)

Example = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TuneRules:
    """How an adapter is trained.

    Attributes:
        rank: Of the adapter's matrices, >= 1; they are scaled by 2.
        learning_rate: At the start; it falls to 0. None: what suits the lesson.
        epochs: Times that each example is seen.
        batch: Examples per step.
        max_length: Tokens of prompt and answer together; what is longer is cut.
        beta: How hard pairs hold to the base, > 0; the higher, the less it changes.
        held_out: Part of the questions that is not learned from but judges, in [0, 1).
        seed: Source of all randomness.
    """

    rank: int = 8
    learning_rate: float | None = None
    epochs: float = 1.0
    batch: int = 4
    max_length: int = 1024
    beta: float = 0.1
    held_out: float = 0.1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is learned from which rows.

    Attributes:
        columns: What a row must have; all of them are conversations.
        learning_rate: Where the rules name none.
        trainer: Which classes of TRL do it, and what their configuration has beside the rest.
        licences: Of the answers in a row.
    """

    columns: tuple[str, ...]
    learning_rate: float
    trainer: Callable[[TuneRules], tuple[Any, Any, dict[str, Any]]]
    licences: Callable[[Example], Sequence[str | None]]


def _imitating(_rules: TuneRules) -> tuple[Any, Any, dict[str, Any]]:
    from trl import SFTConfig, SFTTrainer

    return SFTTrainer, SFTConfig, {"completion_only_loss": True}


def _preferring(rules: TuneRules) -> tuple[Any, Any, dict[str, Any]]:
    from trl import DPOConfig, DPOTrainer

    return DPOTrainer, DPOConfig, {"beta": rules.beta}


# The rate for pairs is TRL's advice for adapters: a twentieth, since what they push apart is soon
# pushed out of the language.
SFT = Lesson(("prompt", "completion"), 2e-4, _imitating, lambda row: [row.get("licence")])
PREFERENCES = Lesson(
    ("prompt", "chosen", "rejected"), 1e-5, _preferring, lambda row: row.get("licences") or [None]
)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What held-out questions say of it.

    Attributes:
        examples: How many there are.
        loss_before: Mean loss of the base.
        loss: Of the base with the adapter.
        margin: By how much the chosen answers gained on the rejected ones, in nats; None without
            pairs.
        right_way: Share of the pairs whose chosen answer gained; None without pairs.
    """

    examples: int
    loss_before: float
    loss: float
    margin: float | None = None
    right_way: float | None = None


@dataclass(frozen=True, slots=True)
class Tuned:
    """What came of it.

    Attributes:
        adapter: Its directory, as PEFT and vLLM (`--enable-lora`) read it.
        losses: Mean loss of each step, in nats: per token of answers to imitate, or per pair.
        examples: How many were learned from.
        licences: Of the answers learned from, sorted; "unknown" where a card says none.
        held_out: By questions that were not learned from; None if there were none to spare.
    """

    adapter: Path
    losses: tuple[float, ...]
    examples: int
    licences: tuple[str, ...]
    held_out: HeldOut | None


def read_examples(path: Path, lesson: Lesson = SFT) -> list[dict[str, Any]]:
    """The rows of `pointsman ledger export --sft`, or `--preferences`.

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
        if not isinstance(row, dict) or not row.keys() >= set(lesson.columns):
            needed = " and ".join(f"`{name}`" for name in lesson.columns)
            raise ExpertConfigError(f"'{path}' line {number} needs {needed}")
        rows.append(row)
    if not rows:
        raise ExpertConfigError(f"'{path}' holds no examples")
    return rows


def tune(
    base: Path,
    examples: Sequence[Example],
    out: Path,
    rules: TuneRules = TuneRules(),
    progress: Callable[[str, float], None] = lambda _what, _done: None,
    lesson: Lesson = SFT,
) -> Tuned:
    """Train an adapter for the model in `base` and write it to `out`.

    Only the answers are learned, not the prompts. Nothing is downloaded. Beside the adapter stands
    what it was made of (`pointsman.json`): base, rules, a hash of the examples, their licences.

    Args:
        base: A directory with a causal model and its tokenizer.
        examples: Rows with the columns of the lesson, as conversations.
        out: A directory that does not exist yet.
        rules: How.
        progress: Told the step that was done, and the part of all of them.
        lesson: What is learned from them.

    Raises:
        ExpertConfigError: The extra is missing, the base is no model, `out` exists, or every
            prompt is longer than `max_length`.
    """
    if out.exists():
        raise ExpertConfigError(f"'{out}' exists; choose another directory for the adapter")
    if not (base / "config.json").is_file():
        raise ExpertConfigError(f"'{base}' holds no model: there is no config.json")
    learned, spared = _split(examples, rules)
    trainer = _trainer(base, learned, spared, out, rules, lesson, progress)
    if not len(trainer.train_dataset):
        raise ExpertConfigError(
            f"every prompt fills max_length={rules.max_length} tokens, so that no answer is left"
        )
    before = trainer.evaluate() if trainer.eval_dataset else None
    trainer.train()
    held_out = _held_out(before, trainer, rules) if before else None
    trainer.save_model(str(out))
    losses = tuple(float(e["loss"]) for e in trainer.state.log_history if "loss" in e)
    licences = {each or "unknown" for row in learned for each in lesson.licences(row)}
    tuned = Tuned(out, losses, len(trainer.train_dataset), tuple(sorted(licences)), held_out)
    about = {
        **asdict(tuned),
        "adapter": str(out),
        "base": str(base),
        "rules": asdict(rules),
        "examples_sha256": _digest(learned),
    }
    (out / ABOUT).write_bytes(orjson.dumps(about, option=orjson.OPT_INDENT_2))
    return tuned


def _split(examples: Sequence[Example], rules: TuneRules) -> tuple[list[Example], list[Example]]:
    """What is learned from, and what judges: no question is in both."""
    asked = list(dict.fromkeys(_question(row) for row in examples))
    order = np.random.default_rng(rules.seed).permutation(len(asked))
    spared = {asked[place] for place in order[: int(rules.held_out * len(asked))]}
    return (
        [row for row in examples if _question(row) not in spared],
        [row for row in examples if _question(row) in spared],
    )


def _question(row: Example) -> bytes:
    return orjson.dumps(row["prompt"], option=orjson.OPT_SORT_KEYS)


def _held_out(before: Mapping[str, float], trainer: Any, rules: TuneRules) -> HeldOut:
    after = trainer.evaluate()
    margin = after.get("eval_rewards/margins")
    return HeldOut(
        len(trainer.eval_dataset),
        loss_before=before["eval_loss"],
        loss=after["eval_loss"],
        margin=None if margin is None else margin / rules.beta,
        right_way=after.get("eval_rewards/accuracies"),
    )


def _trainer(
    base: Path,
    learned: Sequence[Example],
    spared: Sequence[Example],
    out: Path,
    rules: TuneRules,
    lesson: Lesson,
    progress: Callable[[str, float], None],
) -> Any:
    try:
        from datasets import Dataset
        from peft import LoraConfig
        from transformers import AutoModelForCausalLM, PrinterCallback

        trainer_class, config_class, more = lesson.trainer(rules)
    except ImportError as error:
        raise ExpertConfigError(
            "fine-tuning needs the extra: pip install 'pointsman[rl]'"
        ) from error
    rate = lesson.learning_rate if rules.learning_rate is None else rules.learning_rate

    def rows(examples: Sequence[Example]) -> Any:
        return Dataset.from_list([{name: row[name] for name in lesson.columns} for row in examples])

    trainer = trainer_class(
        model=AutoModelForCausalLM.from_pretrained(base, local_files_only=True),
        processing_class=_tokenizer(base),
        train_dataset=rows(learned),
        eval_dataset=rows(spared) if spared else None,
        peft_config=LoraConfig(
            r=rules.rank,
            lora_alpha=2 * rules.rank,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
        args=config_class(
            output_dir=str(out.with_name(f".{out.name}-steps")),
            per_device_train_batch_size=rules.batch,
            # TRL takes the mean of batches: of one row each, it is that of rows.
            per_device_eval_batch_size=1,
            learning_rate=rate,
            num_train_epochs=rules.epochs,
            max_length=rules.max_length,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            bf16=False,
            gradient_checkpointing=False,
            dataloader_pin_memory=False,
            seed=rules.seed,
            **more,
        ),
        callbacks=[_callback(progress)],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _tokenizer(base: Path) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    if tokenizer.chat_template is None:
        tokenizer.chat_template = _PLAIN_TEMPLATE
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


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
