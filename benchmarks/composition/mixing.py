"""Whether mixing, guidelines and examples help two real small models, on the demo's prompts.

`python -m benchmarks.composition.mixing [--per-task 6] [--out FILE.json]`

Answers to training prompts are graded and booked, shelves are built of them (guidelines written by
SmolLM2), and every composition answers the held-out prompts through the endpoint. Printed: share of
right answers, its 95 % interval, and that of the difference from the expert it is made around.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.composition.asking import asked, command, ledger_in, settings_in, with_interval
from eval.metrics.intervals import ClusterBootstrap
from gateway.collection.collecting import Prompt, read_prompts
from gateway.engines.local import RunningEngines, local_engines
from gateway.running import background_server, make_app

TASKS = ("facts", "opposites", "past_tense", "classification", "extraction", "logic")
MAX_TOKENS = 24


def compositions(examples: Path, guidelines: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Name to the expert that it is made around, and its entry."""
    both = ["smollm2", "gemma"]
    last = {"aggregator": "smollm2", "draft_tokens": MAX_TOKENS}
    return {
        "mixture": ("smollm2", {"mixture": {"of": both, **last}}),
        "self_moa": ("smollm2", {"self_moa": {"of": "smollm2", "n": 3, **last}}),
        "peers": ("smollm2", {"peers": {"of": ["gemma"], "primary": "smollm2"}}),
        "panel": ("smollm2", {"panel": {"of": both, "judge": "smollm2"}}),
        "templates": ("smollm2", {"templates": {"of": "smollm2", "shelf": str(guidelines)}}),
        "medprompt": (
            "smollm2",
            {"medprompt": {"of": "smollm2", "shelf": str(examples), "runs": 3, "temperature": 0.5}},
        ),
        "medprompt_gemma": (
            "gemma",
            {"medprompt": {"of": "gemma", "shelf": str(examples), "runs": 3, "temperature": 0.5}},
        ),
    }


def main() -> None:
    """Ask, and print the table."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--per-task", type=int, default=6)
    words.add_argument("--out", type=Path)
    given = words.parse_args()
    prompts = [
        prompt
        for prompt in read_prompts(Path(str(files("gateway.demo").joinpath("prompts.jsonl"))))
        if prompt.task in TASKS
    ]
    learned = _some(prompts, "train", 2 * given.per_task)
    held_out = _some(prompts, "test", given.per_task)
    with tempfile.TemporaryDirectory() as scratch:
        found = _measured(Path(scratch), learned, held_out)
    _show(found, held_out)
    if given.out:
        given.out.write_text(json.dumps(found, indent=1))


def _some(prompts: Sequence[Prompt], split: str, per_task: int) -> list[Prompt]:
    of = {task: [p for p in prompts if (p.task, p.split) == (task, split)] for task in TASKS}
    return [prompt for task in TASKS for prompt in of[task][:per_task]]


def _measured(
    folder: Path, learned: Sequence[Prompt], held_out: Sequence[Prompt]
) -> list[dict[str, Any]]:
    examples, guidelines = folder / "examples.shelf", folder / "guidelines.shelf"
    with local_engines(settings_in(folder)) as engines:
        with background_server(make_app(settings_in(folder), engines, seed=0)) as url:
            asked(url, learned, ["smollm2", "gemma"], MAX_TOKENS)
            ledger = ("--ledger", ledger_in(folder))
            command("shelves", "build", "--out", str(examples), *ledger)
            distil = ("--distiller", "smollm2", "--url", url)
            command("shelves", "build", "--out", str(guidelines), *ledger, *distil)
        made = compositions(examples, guidelines)
        rows = _answered(folder, engines, held_out, made)
    return [
        {"name": name, "around": around, **rows[name], "base": rows[around]["scores"]}
        for name, around in {
            "smollm2": "smollm2",
            "gemma": "gemma",
            **{name: around for name, (around, _) in made.items()},
        }.items()
    ]


def _answered(
    folder: Path,
    engines: RunningEngines,
    held_out: Sequence[Prompt],
    made: Mapping[str, tuple[str, dict[str, Any]]],
) -> dict[str, dict[str, Any]]:
    entries = [{"id": name, **entry} for name, (_, entry) in made.items()]
    found = {}
    with background_server(make_app(settings_in(folder, *entries), engines, seed=0)) as url:
        for name in ("smollm2", "gemma", *made):
            rows = {row["query_id"]: row for row in asked(url, held_out, [name], MAX_TOKENS).rows}
            answers = [rows.get(prompt.query_id) for prompt in held_out]
            found[name] = {
                "scores": [answer["score"] if answer else 0.0 for answer in answers],
                "usd": sum(answer["cost_usd"] for answer in answers if answer),
                "seconds": sum(answer["latency_s"] for answer in answers if answer),
            }
            Console(stderr=True).print(f"{name}: {np.mean(found[name]['scores']):.3f}")
    return found


def _show(found: Sequence[Mapping[str, Any]], held_out: Sequence[Prompt]) -> None:
    boot = ClusterBootstrap([prompt.query_id for prompt in held_out], seed=0)
    out = Console(width=120)
    out.print(f"{len(held_out)} held-out prompts of {len(TASKS)} kinds")
    for row in found:
        scores_N, base_N = np.array(row["scores"]), np.array(row["base"])
        share = with_interval(boot, scores_N)
        gain = "" if row["name"] == row["around"] else f"{with_interval(boot, scores_N - base_N)}"
        per_thousand = 1000 * row["usd"] / len(held_out)
        out.print(f"{row['name']:16} {share}  {gain:28} ${per_thousand:.4f} per 1,000")


if __name__ == "__main__":
    main()
