"""Whether guidelines, examples and options in other orders help real small models.

`python -m benchmarks.composition.prompting [--per-task 8] [--out FILE.json]`

Questions of the demo with one word for an answer, and sums, are put as they are and with four
options to choose from. Half of them at a time is asked with what the other half left in the ledger:
answers of both models that were right, as examples and as guidelines that SmolLM2 writes of them.
Printed by form, model and way: share of right answers and what a million cost, with 95 % intervals,
and the paired difference from the plain question.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from rich.console import Console

from benchmarks.composition.asking import (
    MODELS,
    asked,
    command,
    ledger_in,
    settings_in,
    with_interval,
)
from eval.graders.base import Fields, Grade, right, wrong
from eval.graders.mentions import MentionsCheck
from eval.metrics.intervals import ClusterBootstrap
from experts.compose.choices import lettered, picked
from gateway.collection.collecting import Collected, Prompt, read_prompts
from gateway.engines.local import RunningEngines, local_engines
from gateway.running import background_server, make_app

WORDS = ("facts", "opposites", "past_tense", "spanish")
SUMS = "sums"
OPTIONS = 4
MAX_TOKENS = 12
GUIDELINES = 10
NAMES = tuple(model["id"] for model in MODELS)

Answers = dict[tuple[str, str, str, str], dict[str, Any]]
"""By form, model, way and question."""


@dataclass(frozen=True, slots=True)
class ChoiceCheck:
    """The answer means the right option, by its letter or by its words."""

    kind: ClassVar[str] = "choice"
    options: tuple[str, ...]
    place: int

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        return cls(tuple(fields["options"]), fields["place"])

    def grade(self, answer: str) -> Grade:
        meant = picked(answer, self.options)
        told = "names no option" if meant is None else f"names option {meant + 1}"
        return right(told) if meant == self.place else wrong(told)


class Part(NamedTuple):
    """Half of the questions in one form, and what the other half left for it.

    Attributes:
        form: `open`, or `options`.
        half: 0 or 1.
        prompts: The questions.
        folder: Where its shelves are.
    """

    form: str
    half: int
    prompts: Sequence[Prompt]
    folder: Path

    @property
    def examples(self) -> Path:
        """A shelf of right answers to questions of the other half."""
        return self.folder / f"examples-{self.form}-{self.half}"

    @property
    def guidelines(self) -> Path:
        """A shelf of guidelines written of them."""
        return self.folder / f"guidelines-{self.form}-{self.half}"


def ways(model: str, part: Part) -> dict[str, dict[str, Any]]:
    """How a model is asked, beside plainly: name to entry."""
    shelf = str(part.examples)
    shown = {"5 examples": {"medprompt": {"of": model, "shelf": shelf, "runs": 1}}}
    if part.form == "open":
        return {"templates": {"templates": {"of": model, "shelf": str(part.guidelines)}}, **shown}
    turned = {"of": model, "runs": OPTIONS, "at_once": 1}
    return {
        **shown,
        "4 orders": {"medprompt": turned},
        "medprompt": {"medprompt": {**turned, "shelf": shelf}},
    }


def main() -> None:
    """Ask, and print the tables."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--per-task", type=int, default=8)
    words.add_argument("--out", type=Path)
    given = words.parse_args()
    if given.per_task < 2 * OPTIONS:
        words.error(f"--per-task must be {2 * OPTIONS} or more: options come from half of a kind")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        parts = _parts(folder, given.per_task)
        with local_engines(settings_in(folder)) as engines:
            plain = _plain(folder, engines, parts)
            answers = plain | _composed(folder, engines, parts)
    found = [
        _row(form, model, way, answers, parts)
        for form, model, way in dict.fromkeys(key[:3] for key in answers)
    ]
    _show(found)
    if given.out:
        given.out.write_text(json.dumps(found, indent=1))


def _parts(folder: Path, per_task: int) -> list[Part]:
    """As many questions of each kind in either half, each in both forms."""
    asked_of = _questions(per_task)
    rng = np.random.default_rng(0)
    parts = []
    for half in (0, 1):
        opens = [prompt for of in asked_of.values() for prompt in of[half::2]]
        chosen = [prompt for of in asked_of.values() for prompt in _with_options(of[half::2], rng)]
        parts += [Part("open", half, opens, folder), Part("options", half, chosen, folder)]
    return parts


def _questions(per_task: int) -> dict[str, list[Prompt]]:
    """As the demo has them, by kind, without those whose answer another one has, too."""
    of_all = read_prompts(Path(str(files("gateway.demo").joinpath("prompts.jsonl"))))
    sums = [(a, b) for a in range(2, 10) for b in range(11, 20)]
    np.random.default_rng(1).shuffle(sums)
    of_all += tuple(
        Prompt(f"sums-{a}-{b}", f"What is {b} + {a}?", SUMS, None, MentionsCheck((str(a + b),)))
        for a, b in sums
    )
    found: dict[str, dict[str, Prompt]] = {task: {} for task in (*WORDS, SUMS)}
    for prompt in of_all:
        if prompt.task in found and isinstance(prompt.check, MentionsCheck):
            # The split is of the demo; here all may be learned from, by the other half.
            found[prompt.task].setdefault(prompt.check.answers[0], replace(prompt, split=None))
    return {task: list(of.values())[:per_task] for task, of in found.items()}


def _with_options(prompts: Sequence[Prompt], rng: np.random.Generator) -> list[Prompt]:
    """With wrong options that are right elsewhere, in an order by chance."""
    made = []
    for prompt in prompts:
        answer = _answer(prompt)
        others = [_answer(each) for each in prompts if each is not prompt]
        options = [answer, *rng.choice(others, OPTIONS - 1, replace=False).tolist()]
        order = rng.permutation(OPTIONS)
        shown = tuple(options[place] for place in order)
        lines = [prompt.text, *(lettered(place, shown) for place in range(OPTIONS))]
        text = "\n".join([*lines, "Reply with the letter of the right option."])
        check = ChoiceCheck(shown, int(np.argmin(order)))
        made.append(replace(prompt, text=text, check=check))
    return made


def _answer(prompt: Prompt) -> str:
    return prompt.check.answers[0] if isinstance(prompt.check, MentionsCheck) else ""


def _plain(folder: Path, engines: RunningEngines, parts: Sequence[Part]) -> Answers:
    """Each model's answer to each plain question; the shelves are made of them."""
    found: Answers = {}
    with background_server(make_app(settings_in(folder), engines, seed=0)) as url:
        for part in parts:
            tags = {"form": part.form, "half": str(part.half)}
            came = asked(url, part.prompts, NAMES, MAX_TOKENS, tags=tags)
            for name in NAMES:
                found |= _keyed(part.form, name, "plain", name, came)
        for part in parts:
            of_other = ("--tag", f"form={part.form}", "--tag", f"half={1 - part.half}")
            # What differs in digits alone is the same to the default encoder, and so not told.
            build = ("shelves", "build", "--encoder", "minilm", "--ledger", ledger_in(folder))
            command(*build, *of_other, "--out", str(part.examples))
            if part.form == "open":
                distil = ("--distiller", "smollm2", "--url", url, "--most", str(GUIDELINES))
                command(*build, *of_other, *distil, "--out", str(part.guidelines))
    return found


def _composed(folder: Path, engines: RunningEngines, parts: Sequence[Part]) -> Answers:
    """The answers by every other way."""
    entries = {
        (number, way, model): {"id": f"{way.replace(' ', '-')}-{model}-{number}", **entry}
        for number, part in enumerate(parts)
        for model in NAMES
        for way, entry in ways(model, part).items()
    }
    found: Answers = {}
    settings = settings_in(folder, *entries.values())
    with background_server(make_app(settings, engines, seed=0)) as url:
        for number, way in dict.fromkeys(key[:2] for key in entries):
            part, ids = parts[number], {name: entries[number, way, name]["id"] for name in NAMES}
            came = asked(url, part.prompts, list(ids.values()), MAX_TOKENS)
            for name, expert in ids.items():
                found |= _keyed(part.form, name, way, expert, came)
    return found


def _keyed(form: str, model: str, way: str, expert: str, came: Collected) -> Answers:
    """What one expert answered of all that came, and its failures and successes told."""
    rows = [row for row in came.rows if row["model"] == expert]
    told = Console(stderr=True)
    for failure in came.failures:
        if f" to {expert}:" in failure:
            told.print(failure, markup=False)
    good = sum(row["score"] for row in rows)
    told.print(f"{form}, {model}, {way}: {good:g} of {len(rows)} right")
    return {(form, model, way, row["query_id"]): row for row in rows}


def _row(
    form: str, model: str, way: str, answers: Answers, parts: Sequence[Part]
) -> dict[str, Any]:
    asks = [prompt for part in parts if part.form == form for prompt in part.prompts]
    of_way = [answers.get((form, model, way, prompt.query_id), {}) for prompt in asks]
    return {
        "form": form,
        "model": model,
        "way": way,
        "tasks": [prompt.task for prompt in asks],
        # A failed call is a wrong answer.
        "scores": [row.get("score", 0.0) for row in of_way],
        "usd": [row.get("cost_usd", 0.0) for row in of_way],
        "seconds": [row.get("latency_s", 0.0) for row in of_way],
        "said": [row.get("response") for row in of_way],
    }


def _show(found: Sequence[Mapping[str, Any]]) -> None:
    out = Console(width=140)
    count = len(found[0]["scores"])
    boot = ClusterBootstrap([str(number) for number in range(count)], seed=0)
    out.print(f"{count} questions of {len(set(found[0]['tasks']))} kinds in either form")
    plain = {(row["form"], row["model"]): row for row in found if row["way"] == "plain"}
    for row in sorted(found, key=lambda row: (row["form"], row["model"])):
        beside = plain[row["form"], row["model"]]
        scores_N, usd_N = np.array(row["scores"]), np.array(row["usd"])
        gain_N = scores_N - np.array(beside["scores"])
        cells = [
            f"{row['form']:8} {row['model']:8} {row['way']:11}",
            f"{with_interval(boot, scores_N):22}",
            f"{'' if row is beside else with_interval(boot, gain_N):22}",
            f"$ {with_interval(boot, usd_N, 1e6)} per million,",
            f"{usd_N.sum() / np.sum(beside['usd']):.1f} times plain,",
            f"{np.mean(row['seconds']):.2f} s each",
        ]
        out.print(" ".join(cells), markup=False)


if __name__ == "__main__":
    main()
