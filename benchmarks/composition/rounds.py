"""A small policy learns to drive rounds over three simulated experts, by seed and weight of cost.

`python -m benchmarks.composition.rounds [--seeds 3] [--figure docs/figures/rounds.png]`

A policy of a million parameters is warmed up on clumsy traces (whom they ask is chance), then
trained by GRPO through TRL with Router-R1's reward, at two weights α of cost. Printed, on held-out
questions: reward before and after (costs on the scale of before), accuracy, cost, whom it asks.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

ROOT = Path(__file__).resolve().parents[2]
SMOOTH = 8


def learn(seed: int, alphas: Sequence[float], out: Path, **settings: Any) -> list[dict[str, Any]]:
    """One seed's lessons, in a process of its own on one core: `settings` go to `school`."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.composition.rounds",
        "--seed",
        str(seed),
        "--out",
        str(out),
    ]
    command += ["--settings", json.dumps(settings), "--alphas", *map(str, alphas)]
    alone = {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        command, env={**os.environ, **alone}, stdout=subprocess.PIPE, check=False, text=True
    )
    if done.returncode:
        raise RuntimeError(f"seed {seed} ended with code {done.returncode}")
    lessons: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return lessons


def summary(lessons: Sequence[Mapping[str, Any]]) -> str:
    """One line per lesson."""
    head = "alpha seed  reward before → after   accuracy   $/1000 answers  calls  faults"
    lines = [head]
    for each in sorted(lessons, key=lambda lesson: (lesson["alpha"], lesson["seed"])):
        before, after = each["before"], each["after"]
        lines.append(
            f"{each['alpha']:5g} {each['seed']:4d}  {before['reward']:6.3f} → {after['reward']:.3f}"
            f" ({each['rise']:+.3f})  {before['accuracy']:.3f} → {after['accuracy']:.3f}"
            f"  {1000 * before['cost_usd']:.4f} → {1000 * after['cost_usd']:.4f}"
            f"  {after['calls']:.2f}  {after['faults']:.3f}"
        )
        for kind, shares in after["asked"].items():
            told = ", ".join(
                f"{name} {share:.0%}" for name, share in shares.items() if share > 0.02
            )
            lines.append(f"{'':12}{kind}: {told}")
    return "\n".join(lines)


def draw(lessons: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Reward over steps, and where each policy ends in cost and accuracy."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    colours = dict(
        zip(sorted({each["alpha"] for each in lessons}), ("C0", "C1", "C2"), strict=False)
    )
    for each in lessons:
        rewards = np.array([step["reward"] for step in each["steps"]])
        smooth = np.convolve(rewards, np.ones(SMOOTH) / SMOOTH, "valid")
        left.plot(np.arange(len(smooth)) + SMOOTH, smooth, color=colours[each["alpha"]], alpha=0.8)
        for when, marker in (("before", "o"), ("after", "s")):
            point = each[when]
            right.plot(
                1000 * point["cost_usd"],
                point["accuracy"],
                marker,
                color="grey" if when == "before" else colours[each["alpha"]],
                label=f"α = {each['alpha']:g}" if when == "after" else "traces only",
            )
    left.set(xlabel=f"step of 64 conversations (mean of {SMOOTH})", ylabel="reward")
    right.set(xlabel="dollars per 1,000 answers", ylabel="accuracy on held-out questions")
    handles = dict(zip(*reversed(right.get_legend_handles_labels()), strict=True))
    right.legend(handles.values(), handles.keys(), frameon=False)
    figure.savefig(path, dpi=110)


def _one(seed: int, alphas: Sequence[float], out: Path, settings: Mapping[str, Any]) -> None:
    """What the process of one seed does: its last line is the lessons as JSON."""
    import torch

    from eval.rounds.lesson import school

    torch.set_num_threads(1)
    lessons = school(seed, alphas, out, **settings)
    told = [{"seed": seed, "rise": each.rise, **asdict(each)} for each in lessons]
    Console(soft_wrap=True).file.write(json.dumps(told) + "\n")


def main() -> None:
    """Print the table, and draw the figure if one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--alphas", type=float, nargs="+", default=[0.0, 0.9])
    parser.add_argument("--jobs", type=int, default=2, help="seeds at once, each on one core")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--save", type=Path, help="JSON file for all lessons")
    parser.add_argument("--seed", type=int, help="only this one, in this process")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "rounds")
    parser.add_argument("--settings", type=json.loads, default={})
    told = parser.parse_args()
    if told.seed is not None:
        _one(told.seed, told.alphas, told.out, told.settings)
        return
    began = time.monotonic()

    def of_seed(seed: int) -> list[dict[str, Any]]:
        return learn(seed, told.alphas, told.out / str(seed), **told.settings)

    with ThreadPoolExecutor(told.jobs) as several:
        lessons = [lesson for each in several.map(of_seed, range(told.seeds)) for lesson in each]
    console = Console(soft_wrap=True, highlight=False)
    console.print(summary(lessons))
    console.print(f"{time.monotonic() - began:.0f} s in all")
    if told.save:
        told.save.write_text(json.dumps(lessons))
    if told.figure:
        draw(lessons, told.figure)


if __name__ == "__main__":
    main()
