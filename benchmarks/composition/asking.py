"""Real packaged models asked through the endpoint, and what became of it, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import numpy as np
from typer.testing import CliRunner

from eval.metrics.intervals import ClusterBootstrap, percentile_interval
from gateway.cli.main import app
from gateway.collection.collecting import Collected, Collecting, Collector, Prompt
from gateway.settings.root import Settings
from routers.records import Floats

MODELS = (
    {"kind": "packaged", "package": "smollm2-135m-instruct", "id": "smollm2"},
    {"kind": "packaged", "package": "gemma-3-270m", "id": "gemma"},
)


def settings_in(folder: Path, *more: Mapping[str, Any]) -> Settings:
    """A gateway over both models, and `more` experts, that keeps everything in `folder`."""
    return Settings.model_validate(
        {
            "experts": [*MODELS, *more],
            "ledger": {"url": ledger_in(folder), "text": "full"},
            "data_dir": str(folder),
        }
    )


def ledger_in(folder: Path) -> str:
    """The URL of its ledger."""
    return f"sqlite:///{folder}/ledger.db"


def asked(
    url: str, prompts: Sequence[Prompt], models: Sequence[str], max_tokens: int, **more: Any
) -> Collected:
    """Every answer of every model, graded and booked; one request at a time per model."""
    collector = Collector(Collecting(url, max_tokens=max_tokens, concurrency=1, **more))
    return anyio.run(collector.collect, prompts, models)


def command(*words: str) -> None:
    """One of the product's commands."""
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    if result.exit_code:
        raise RuntimeError(result.output)


def with_interval(boot: ClusterBootstrap, values_N: Floats, scale: float = 100) -> str:
    """Mean and 95 % interval, in points."""
    interval = percentile_interval(boot.means(values_N[None], np.ones((1, len(values_N))))[:, 0])
    mean = f"{scale * values_N.mean():+.1f}"
    if interval is None:
        return mean
    return f"{mean} ({scale * interval.low:+.1f}, {scale * interval.high:+.1f})"
