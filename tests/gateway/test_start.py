"""What a gateway is made of when it starts: nothing that only other commands need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from gateway.ledger.database import LEDGER, Schema
from gateway.responses.store import SCHEMA as RESPONSES

_FOR_OTHER_WORK = {
    "alembic",
    "eval.comparison",
    "experts.calculator.calculator",
    "experts.compose.vote",
    "gateway.api.described.interface",
    "httpcore2",
    "jinja2",
    "matplotlib",
    "opentelemetry",
    "pandas",
    "pyarrow",
    "rich",
    "scipy",
    "sklearn",
    "sqlalchemy.dialects.postgresql",
    "torch",
    "truststore",
}
_START = """
import gc, json, sys
import uvicorn
from gateway.cli.main import app

def instead(server, sockets=None):
    server.config.load()
    print(json.dumps({"modules": list(sys.modules), "frozen": gc.get_freeze_count(),
        "threshold": gc.get_threshold()[0]}))

uvicorn.Server.run = instead
app(["serve", "--config", sys.argv[1], "--port", "0"])
"""


def started(config: Path) -> dict[str, Any]:
    words = [sys.executable, "-c", _START, str(config)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_gateway_loads_nothing_that_only_other_commands_need(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    expert = {"id": "small", "base_url": "http://127.0.0.1:1/v1"}
    ledger = {"url": f"sqlite:///{tmp_path}/ledger.db"}
    config.write_text(
        json.dumps({"experts": [expert], "ledger": ledger, "data_dir": str(tmp_path / "data")})
    )
    first, again = started(config), started(config)
    # The first start makes the tables.
    to_migrate = {"alembic", "sqlalchemy.dialects.postgresql"}
    assert _FOR_OTHER_WORK.intersection(first["modules"]) == to_migrate
    assert _FOR_OTHER_WORK.intersection(again["modules"]) == set()
    assert again["frozen"] > 100_000
    assert again["threshold"] > 10_000


@pytest.mark.parametrize("schema", [LEDGER, RESPONSES], ids=["ledger", "responses"])
def test_the_newest_schema_is_known_from_the_names_of_its_files(schema: Schema) -> None:
    config = Config()
    config.set_main_option("script_location", str(schema.migrations))
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [schema.newest()]
    for script in scripts.walk_revisions():
        assert Path(script.path).name.startswith(f"v{script.revision}_")
