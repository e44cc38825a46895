from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.cli.main import app
from gateway.routing.router_store import RouterStore
from routers.router import untrained_router

GOOD: dict[str, Any] = {
    "keys": [{"name": "op", "key": "env:CHECK_KEY", "admin": True}],
    "experts": [
        {"id": "priced", "base_url": "http://127.0.0.1:1/v1", "prices": {"input": 1, "output": 2}},
        {"id": "gpt", "base_url": "https://api.openai.com/v1", "catalogue": "openai/gpt-4o-mini"},
        {"id": "dark", "base_url": "http://127.0.0.1:1/v1"},
        {"kind": "calculator"},
        {"id": "both", "cascade": ["priced", "gpt"]},
    ],
    "aliases": {"small": "priced"},
}


def check(tmp_path: Path, *options: str, **sections: Any) -> Result:
    path = tmp_path / "c.yaml"
    settings = {**GOOD, "data_dir": str(tmp_path / "data"), **sections}
    path.write_text(json.dumps(settings, indent=1))
    return CliRunner().invoke(app, ["serve", "--check", "--config", str(path), *options])


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHECK_KEY", "s3cr3t-key")


def test_a_usable_configuration_is_summed_up_and_nothing_is_started(tmp_path: Path) -> None:
    result = check(tmp_path, "--host", "0.0.0.0", "--workers", "3")
    assert result.exit_code == 0, result.output
    for words in ("0.0.0.0:8000", "127.0.0.1:8090", "small → priced", "gpt-4o-mini", "op"):
        assert words in result.stdout
    assert "experts[2]: no prices" in result.stderr
    assert "s3cr3t" not in result.output
    assert not (tmp_path / "data").exists()


def test_brackets_are_what_they_are(tmp_path: Path) -> None:
    model = {"id": "a", "base_url": "http://127.0.0.1:1/v1", "model": "m[b]x[/y]"}
    told = check(tmp_path, experts=[model], aliases={"[bold]": "a"})
    assert told.exit_code == 0, told.output
    assert "m[b]x[/y]" in told.stdout
    assert "[bold] → a" in told.stdout


def test_programs_get_the_same_as_json(tmp_path: Path) -> None:
    told = json.loads(check(tmp_path, "--json").stdout)
    assert told["ok"]
    assert told["faults"] == []
    assert [warning["key"] for warning in told["warnings"]] == ["experts[2]"]
    by_id = {expert["id"]: expert for expert in told["settings"]["experts"]}
    assert by_id["priced"]["usd_per_mtok_output"] == 2
    assert by_id["gpt"]["price_source"].startswith("genai-prices")
    assert by_id["dark"]["price_source"] == "unknown"
    assert by_id["calculator"]["price_source"] == "measured or free"
    assert by_id["both"]["price_source"] == "what its children cost"


def test_a_key_for_an_expert_that_is_not_there_is_warned_of(tmp_path: Path) -> None:
    scoped = {"name": "team", "key": "env:CHECK_KEY", "experts": ["priced", "gtp"]}
    told = json.loads(check(tmp_path, "--json", keys=[*GOOD["keys"], scoped]).stdout)
    assert told["ok"]
    (warning,) = (each for each in told["warnings"] if each["key"].startswith("keys"))
    assert warning["key"] == "keys[1].experts[1]"
    assert "did you mean `gpt`" in warning["message"]


def test_an_own_limit_beyond_the_deadline_of_all_is_warned_of(tmp_path: Path) -> None:
    patient = {**GOOD["experts"][0], "limits": {"whole_s": 300, "idle_s": 60}}
    experts = [patient, *GOOD["experts"][1:]]
    for total_s, keys in (
        (120, ["experts[0].limits.whole_s", "experts[2]"]),
        (300, ["experts[2]"]),
    ):
        told = check(tmp_path, "--json", experts=experts, limits={"total_s": total_s})
        assert [each["key"] for each in json.loads(told.stdout)["warnings"]] == keys


def test_who_is_on_which_device_is_told(tmp_path: Path) -> None:
    server = {"kind": "vllm", "command": ["/bin/true"]}
    there = {"kind": "vllm", "id": "there", "base_url": "http://127.0.0.1:1/v1", "api_key": "k1"}
    experts = [
        {**server, "id": "always", "model": "/m/always", "memory_gb": 24},
        {**server, "id": "wide", "model": "/m/wide", "memory_gb": 100, "tensor_parallel": 2},
        {**server, "id": "law", "model": "/m/law", "memory_gb": 40},
        there,
    ]
    sections = {
        "experts": experts,
        "aliases": {},
        "devices": [{"id": each, "memory_gb": 80} for each in "01"],
        "residency": {"experts": {"wide": {}, "law": {}}},
    }
    result = check(tmp_path, "--json", **sections)
    told = json.loads(result.stdout)["settings"]
    assert [each["model"] for each in told["experts"]] == ["/m/always", "/m/wide", "/m/law", None]
    assert [each["base_urls"] for each in told["experts"]] == [[], [], [], [there["base_url"]]]
    assert [each["key"] for each in told["experts"]] == [False, False, False, True]
    assert [
        (each["always"], each["turns"], each["turns_share_gb"]) for each in told["devices"]
    ] == [
        ({"always": 24}, {"wide": 50}, 56),
        ({}, {"wide": 50, "law": 40}, 80),
    ]
    assert "wide 50, law 40 share 80" in check(tmp_path, **sections).stdout


def test_all_that_stands_in_the_way_of_a_start_is_told_and_the_code_is_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CHECK_KEY")
    faulty = {
        "server": {"tls_cert": "none.pem", "tls_key": "none.pem"},
        "experts": [{"kind": "packaged", "package": "gpt-5"}],
        "aliases": {},
        "ledger": {"url": "mongodb://me:s3cr3t@host/x"},
    }
    told = check(tmp_path, "--json", **faulty)
    assert told.exit_code == 2
    summary = json.loads(told.stdout)
    assert (summary["ok"], summary["settings"]) == (False, None)
    faults = {fault["key"]: fault["message"] for fault in json.loads(told.stdout)["faults"]}
    assert set(faults) == {"keys[0].key", "server.tls_cert", "experts[0].package", "ledger.url"}
    assert "'CHECK_KEY' is not set" in faults["keys[0].key"]
    assert "there are gemma-3-270m" in faults["experts[0].package"]
    assert "s3cr3t" not in told.output
    assert check(tmp_path, **faulty).exit_code == 2


def test_strangers_without_keys_are_a_fault(tmp_path: Path) -> None:
    told = check(tmp_path, "--host", "0.0.0.0", keys=[])
    assert told.exit_code == 2
    assert "server.host: refusing to serve 0.0.0.0" in told.stderr


def test_wrong_keys_and_files_that_are_none_are_faults(tmp_path: Path) -> None:
    told = check(tmp_path, rooting={})
    assert told.exit_code == 2
    assert "did you mean `routing`?" in told.stderr
    missing = ["serve", "--check", "--json", "--config", str(tmp_path / "none.yaml")]
    result = CliRunner().invoke(app, missing)
    assert result.exit_code == 2
    assert "can't be read" in json.loads(result.stdout)["faults"][0]["message"]


def test_a_promoted_router_that_does_not_load_is_a_fault(tmp_path: Path) -> None:
    store = RouterStore(tmp_path / "data/routers")
    version = store.publish(untrained_router("default"))
    store.promote("default", version)
    assert check(tmp_path).exit_code == 0
    (tmp_path / "data/routers/default" / version / "manifest.json").write_text("{}")
    told = check(tmp_path)
    assert told.exit_code == 2
    assert "router 'default'" in told.stderr
