"""A model says what requests ask for, once per template, and the router keeps what it said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eval.tables.sources import write_outcomes
from experts.base import Expert
from experts.fakes.provider import FakeProvider, Reply
from gateway.cli.main import app
from gateway.errors import ConfigError
from routers.encoders.instructions import template_key
from routers.estimators.calibrated import CalibratedEstimator
from routers.estimators.instruction import InstructionEstimator
from routers.storage.artifacts import load_router
from tests.conftest import Serve

Remote = Callable[..., Expert]
SUM = "Add the numbers 12 and {}."
CITY = 'Name the capital of "{}".'


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two templates, and who is good at which."""
    rows = [
        {
            "query_id": f"q{number}-{side}",
            "prompt": (SUM if side else CITY).format(number),
            "model": model,
            "score": float((model == "sums") == bool(side)),
        }
        for number in range(30)
        for side in (0, 1)
        for model in ("sums", "words")
    ]
    return write_outcomes(rows, tmp_path / "outcomes.parquet")


def train(url: str, table: Path, folder: Path, *words: str) -> str:
    config = folder / "config.yaml"
    config.write_text(json.dumps({"data_dir": str(folder)}))
    command = [
        "train", "--data", str(table), "--out", str(folder / "router"), "--url", url,
        "--config", str(config), *words,
    ]  # fmt: skip
    told = CliRunner().invoke(app, command)
    if told.exception and not isinstance(told.exception, SystemExit):
        raise told.exception
    return told.output


def test_each_template_is_described_once_and_the_router_keeps_it(
    serve: Serve, remote: Remote, provider: FakeProvider, table: Path, tmp_path: Path
) -> None:
    provider.otherwise = Reply("Do sums.\nAnd nothing else")
    served = serve({"writer": remote("writer", provider.url)})
    words = ("--estimator", "instruction+hashing", "--instructor", "writer")
    assert "described 2 templates" in train(served.url, table, tmp_path, *words)
    assert len(provider.bodies) == 2
    estimator = load_router(tmp_path / "router").estimator
    assert isinstance(estimator, CalibratedEstimator)
    inner = estimator.inner
    assert isinstance(inner, InstructionEstimator)
    # The same template with other numbers; and one that nobody has described.
    assert inner.instructor.instruction(SUM.format(77)) == "Do sums."
    assert inner.instructor.instruction("Write a poem.") == "Write a poem."


def test_a_template_without_an_answer_is_read_off_the_text(
    serve: Serve, remote: Remote, provider: FakeProvider, table: Path, tmp_path: Path
) -> None:
    provider.otherwise = Reply(status=400)
    served = serve({"writer": remote("writer", provider.url)})
    words = ("--estimator", "instruction+hashing", "--instructor", "writer")
    assert "described 0 templates" in train(served.url, table, tmp_path, *words)
    assert template_key(SUM.format(1)) == template_key(SUM.format(2)) != template_key(CITY)


def test_other_estimators_have_no_use_for_an_instructor(table: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="goes with --estimator instruction only"):
        train("http://127.0.0.1:9", table, tmp_path, "--estimator", "knn", "--instructor", "writer")
