"""A configuration's secrets are shown by no fault, summary or traceback, whatever is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli.main import app
from gateway.settings.base import secret
from gateway.settings.faults import FaultyConfigError
from gateway.settings.load import load_configuration

SECRET = "planted-secret-0123456789"
SQL = f"postgresql://me:{SECRET}@127.0.0.1:1/ledger"
VALKEY = f"valkey://default:{SECRET}@127.0.0.1:1/0"
EXPERT = {"id": "a", "base_url": "http://127.0.0.1:9/v1", "api_key": SECRET}
KEY = {"name": "op", "key": SECRET, "role": "admin"}
GOOD: dict[str, Any] = {"experts": [EXPERT], "keys": [KEY]}

WRONG: dict[str, Any] = {
    "nothing": GOOD,
    "everything at once": {
        "experts": [
            {**EXPERT, "api_key": [SECRET]},
            {**EXPERT, "id": "b", "api_key": {"x": SECRET}},
        ],
        "keys": [{"name": "k", "key": [SECRET]}],
        "ledger": {"url": [SQL]},
        "access": {"shared": {"url": VALKEY}},
    },
    "a key beside its place": {**GOOD, "api_key": SECRET, "master_key": SECRET},
    "a key with a misspelt name": {"experts": [{**EXPERT, "api_kye": SECRET}]},
    "a secret where a section should be": {"experts": SECRET, "keys": SECRET, "ledger": SECRET},
    "a secret in a URL": {"experts": [{**EXPERT, "base_url": f"http://me:{SECRET}@127.0.0.1/v1"}]},
    "a secret in a query": {"experts": [{**EXPERT, "base_url": f"http://127.0.0.1/?key={SECRET}"}]},
    "a URL that is none": {"experts": [{**EXPERT, "base_url": f"http://[{SECRET}/v1"}]},
    "a database of no kind": {**GOOD, "ledger": {"url": f"mongodb://me:{SECRET}@h/x"}},
    "a database URL that is none": {
        **GOOD,
        "ledger": {"url": f"postgresql://me:{SECRET}@h:port/x"},
    },
    "a Valkey URL that is none": {**GOOD, "access": {"shared": f"http://me:{SECRET}@h/0"}},
    "two experts of one name": {"experts": [EXPERT, EXPERT]},
    "two keys of one secret": {"keys": [KEY, {**KEY, "name": "b"}]},
    "a value of another kind": {"experts": [{**EXPERT, "connect_s": SECRET}]},
    "a key that is too short": {"keys": [{"name": "k", "key": SECRET[:7]}]},
    "an unset variable": {"experts": [{**EXPERT, "api_key": "env:NOT_SET"}], "keys": [KEY]},
    "a collector with a password": {
        **GOOD,
        "telemetry": {"otlp_endpoint": f"http://me:{SECRET}@127.0.0.1:9"},
    },
    "a collector of no kind": {**GOOD, "telemetry": {"otlp_endpoint": f"ftp://me:{SECRET}@h"}},
    "headers of another kind": {**GOOD, "telemetry": {"otlp_headers": [f"authorization={SECRET}"]}},
    "an alias to nobody": {**GOOD, "aliases": {"x": "nobody"}},
    "LiteLLM's": {
        "model_list": [
            {
                "model_name": "fast",
                "litellm_params": {
                    "model": "openai/gpt-4o",
                    "api_key": SECRET,
                    "api_base": f"https://me:{SECRET}@127.0.0.1/v1",
                    "extra_headers": {"authorization": f"Bearer {SECRET}"},
                    "aws_secret_access_key": SECRET,
                },
            }
        ],
        "general_settings": {"master_key": SECRET, "database_url": SQL},
        "environment_variables": {"OPENAI_API_KEY": SECRET},
    },
}

TEXTS = {
    "a broken line": f"keys:\n  - {{name: op, key: {SECRET}",
    "a tab": f"keys:\n\t- key: {SECRET}",
    "an alias": f"keys:\n  - {{name: op, key: *{SECRET}}}",
    "an anchor": f"keys:\n  - {{name: op, key: &{SECRET} }}",
    "a tag": f"keys:\n  - {{name: op, key: !{SECRET} x}}",
    "a percent sign": f"keys:\n  - {{name: op, key: %{SECRET}}}",
    "an odd sign": f"keys:\n  - {{name: op, key: @{SECRET}}}",
    "a quote": f'keys:\n  - {{name: op, key: "{SECRET}',
    "a text alone": SECRET,
    "an equal key": f"keys: {SECRET}\nkeys: {SECRET}",
    "a bad escape": f'keys: "\\q{SECRET}"',
}


def outputs(path: Path) -> list[str]:
    runner = CliRunner()
    told = [
        runner.invoke(app, ["serve", "--config", str(path), *options])
        for options in (["--check"], ["--check", "--json"])
    ]
    said = [str(result.output) + str(result.stderr) for result in told]
    assert all(result.exit_code in (0, 2) for result in told), said
    try:
        configuration = load_configuration(path)
    except FaultyConfigError as error:
        return [*said, str(error), repr(error), json.dumps(error.json())]
    return [*said, repr(configuration.settings), str(configuration.settings)]


@pytest.mark.parametrize("wrong", WRONG)
def test_whatever_is_wrong_no_secret_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps({"data_dir": str(tmp_path), **WRONG[wrong]}, indent=1))
    for said in outputs(path):
        assert SECRET not in said
        assert said


@pytest.mark.parametrize("text", TEXTS)
def test_nor_where_it_is_no_yaml(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(TEXTS[text])
    for said in outputs(path):
        assert SECRET not in said, said


@pytest.mark.parametrize("end", ["\n", "\r\n", " ", "\t\n"], ids=repr)
def test_a_line_end_behind_a_secret_is_no_part_of_it(
    monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setenv("PLANTED", f"{SECRET}{end}")
    assert secret("env:PLANTED") == secret(SECRET + end) == SECRET


@pytest.mark.parametrize("middle", ["\n", "\r\nx-evil: 1", "\x00", "\x7f", "é", "名"], ids=repr)
def test_a_secret_that_no_header_can_hold_is_a_fault_that_does_not_quote_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, middle: str
) -> None:
    held = f"{SECRET}{middle}x"
    path = tmp_path / "config.yaml"
    for value in (held, "env:PLANTED"):
        if value != held and "\x00" in held:
            continue
        monkeypatch.setenv("PLANTED", held.replace("\x00", ""))
        section = {"experts": [{**EXPERT, "api_key": value}], "data_dir": str(tmp_path)}
        path.write_text(json.dumps(section))
        result = CliRunner().invoke(app, ["serve", "--check", "--config", str(path)])
        assert result.exit_code == 2
        assert "experts[0].api_key: " in result.stderr
        assert "holds a character that is not printable ASCII" in result.stderr
        assert SECRET not in result.output
