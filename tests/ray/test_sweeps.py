"""Sweeps of routers over a real Ray cluster."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from gateway.cli.main import app
from tests.eval.test_compare import without_times
from tests.gateway.cli.test_evaluate import recorded
from tests.ray.conftest import Cluster

pytestmark = pytest.mark.ray


def test_an_evaluation_finds_the_same_as_on_one_machine(cluster: Cluster, tmp_path: Path) -> None:
    table, found = str(recorded(tmp_path / "graded.parquet")), []
    for name, where in (("here", ["--jobs", "1"]), ("there", ["--ray", cluster.address])):
        words = ["--train", table, "--test", table, "--report", str(tmp_path / name), *where]
        said = CliRunner().invoke(app, ["evaluate", *words, "--routers", "category,ridge+hashing"])
        assert said.exit_code == 0, said.output
        found.append(without_times(orjson.loads((tmp_path / name / "metrics.json").read_bytes())))
    assert found[0] == found[1]
