"""The leaderboard: the page is what the kept figures render to, and says what was measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.routers.board import SHOWN, of_data, read, render
from eval.compare import compare
from routers.records import OutcomeTable


def a_router(quality: float, **other: Any) -> dict[str, Any]:
    return {
        "quality": quality, "quality_ci95": [quality - 0.01, quality + 0.01],
        "cost_save_at_best_single": 0.25, "aiq": 0.5, "delta_aiq": 0.0123, "apgr": None,
        "ece": 0.02, "fit_s": 3.25, "decide_us": 1234, **other,
    }  # fmt: skip


def a_table(**routers: dict[str, Any]) -> dict[str, Any]:
    return {
        "date": "2026-01-02", "machine": "m", "command": "c", "seconds": 61.0, "n_train": 2000,
        "n_test": 500, "experts": 3, "best_single": {"expert": "large", "quality": 0.7},
        "random": 0.5, "oracle": 0.9, "recommended": "knn", "routers": routers,
        "left_out": ["Router mlp could not be trained: it lacks an extra."],
    }  # fmt: skip


def test_the_page_is_what_the_kept_figures_render_to() -> None:
    assert SHOWN.read_text(encoding="utf-8") == render(read())


def test_a_row_says_what_was_measured() -> None:
    page = render({"a": a_table(knn=a_router(0.72), ridge=a_router(0.71, aiq=None))})
    assert (
        "| `knn` | 72.0 % (71.0–73.0) | 25 % | 0.500 | +0.0123 | – | 0.020 | 3.2 | 1,234 |" in page
    )
    assert "| `ridge` | 71.0 % (70.0–72.0) | 25 % | – |" in page
    assert "Best single expert large 70.0 %" in page
    assert "could not be trained: it lacks an extra." in page
    assert "2026-01-02, m, 61 s: `c`" in page


def test_routers_are_ranked_by_what_they_gain_on_all_tables() -> None:
    page = render(
        {
            "a": a_table(knn=a_router(0.72), ridge=a_router(0.75), pilot=a_router(0.9)),
            "b": a_table(knn=a_router(0.72), ridge=a_router(0.65)),
        }
    )
    rows = [line for line in page.splitlines() if line.startswith("| `")][:3]
    assert rows == [
        "| `knn` | +2.0 | +2.0 | +2.0 |",
        "| `ridge` | +5.0 | -5.0 | +0.0 |",
        # Who was not on all of them has no mean, and comes last.
        "| `pilot` | +20.0 | – | – |",
    ]


def test_a_comparison_is_kept_with_all_that_the_page_shows() -> None:
    ids = tuple(f"{'sum' if row % 2 else 'poem'} {row}" for row in range(60))
    score_NA = np.array([[1.0, 0.0] if row % 2 else [0.0, 1.0] for row in range(60)])
    unknown_NA = np.full((60, 2), np.nan)
    table = OutcomeTable(
        query_ids=ids,
        prompts=ids,
        tasks=(None,) * 60,
        groups=ids,
        experts=("a", "b"),
        score_NA=score_NA,
        prompt_tokens_NA=unknown_NA,
        output_tokens_NA=unknown_NA,
        cost_usd_NA=unknown_NA,
        latency_s_NA=unknown_NA,
        propensity_NA=np.ones((60, 2)),
    )
    found = compare(table, table, ["knn"], replicates=20)
    kept = of_data(found, "python x.py")
    assert kept["routers"]["knn"]["quality"] == pytest.approx(found.router("knn").points[0].quality)
    assert "python x.py" in render({"x": kept})
