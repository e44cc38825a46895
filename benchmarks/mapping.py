"""How long the choice of a fleet takes.

`python benchmarks/mapping.py` draws random pools, chooses the best fleet for each under a size
and a cost budget, and prints the CPU seconds and how far the greedy fleet is below the best.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from routers.allocation.mapping import FleetQuestion, best_map, greedy_map


def main() -> None:
    """Parse the command line, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", type=int, default=60)
    parser.add_argument("--experts", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    table = Table("seed", "budgets", "best, s", "greedy, s", "best", "greedy", "deployed")
    for seed in range(args.seeds):
        unbounded = drawn(np.random.default_rng(seed), args.tasks, args.experts)
        size = float(unbounded.size_A.sum()) / 8
        cost = float(unbounded.share_C @ np.median(unbounded.cost_CA, axis=1)) / 2
        for name, budgets in {
            "size": (size, None),
            "size, cost": (size, cost),
        }.items():
            question = FleetQuestion(
                unbounded.quality_CA,
                unbounded.cost_CA,
                unbounded.size_A,
                unbounded.traffic_C,
                size_budget=budgets[0],
                cost_budget=budgets[1],
                required=(0,),
            )
            began = time.process_time()
            best = best_map(question)
            between = time.process_time()
            greedy = greedy_map(question)
            ended = time.process_time()
            seconds = (f"{between - began:.2f}", f"{ended - between:.4f}")
            objectives = (f"{best.objective:.4f}", f"{greedy.objective:.4f}")
            table.add_row(str(seed), name, *seconds, *objectives, str(len(best.deployed)))
    Console().print(table)


def drawn(rng: np.random.Generator, tasks: int, experts: int) -> FleetQuestion:
    """Larger experts are better on the whole and dearer, each with strengths of its own."""
    size_A = rng.lognormal(2.5, 0.8, experts)
    skill_A = 0.25 + 0.1 * np.log(size_A)
    quality_CA = np.clip(skill_A + rng.normal(0, 0.12, (tasks, experts)), 0, 1)
    cost_CA = size_A * rng.uniform(0.5, 1.5, (tasks, experts))
    return FleetQuestion(quality_CA, cost_CA, size_A, rng.dirichlet(np.ones(tasks)))


if __name__ == "__main__":
    main()
