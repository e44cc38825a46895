"""`pointsman keys` at the ledger and through a running gateway."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from experts.base import Expert
from experts.fakes.provider import FakeProvider
from gateway.cli.keys import seconds
from gateway.cli.main import app
from gateway.errors import ConfigError, GatewayError

Serve = Callable[..., Any]
Remote = Callable[..., Expert]


def run(*words: str) -> str:
    result = CliRunner().invoke(app, ["keys", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def at(tmp_path: Path) -> tuple[str, str]:
    return "--ledger", f"sqlite:///{tmp_path}/ledger.db"


def test_a_key_made_at_the_ledger_opens_the_gateway(
    serve: Serve, remote: Remote, provider: FakeProvider, at: tuple[str, str]
) -> None:
    secret = run("create", "--name", "team", "--expert", "small", *at).strip()
    served = serve({"small": remote("small", provider.url)})
    auth = {"authorization": f"Bearer {secret}"}
    assert served.client.get("/v1/models", headers=auth).status_code == 200
    assert served.client.get("/v1/models").status_code == 401


def test_a_pattern_that_matches_nobody_is_warned_of(
    serve: Serve, remote: Remote, provider: FakeProvider, at: tuple[str, str]
) -> None:
    """At the ledger and at a gateway that runs; the key is made all the same."""
    root = {"name": "root", "key": "root-key-1", "admin": True}
    served = serve({"small": remote("small", provider.url)}, keys=[root])
    there = ("--url", served.url, "--key", "root-key-1")
    for name, where in (("here", at), ("there", there)):
        words = ["keys", "create", "--name", name, "--expert", "smal", *where]
        made = CliRunner().invoke(app, words, catch_exceptions=False)
        assert made.exit_code == 0
        assert made.stdout.startswith("pm-")
        assert "experts[0]: 'smal' matches no expert" in " ".join(made.stderr.split())
        words = ["keys", "change", name, "--policy", "chep", "--expert", "*", *where]
        changed = CliRunner().invoke(app, words, catch_exceptions=False)
        assert "did you mean `cheap`" in " ".join(changed.stderr.split())
        assert "expert" not in changed.stderr


def test_everything_that_was_said_is_listed(at: tuple[str, str]) -> None:
    rights = ["--project", "red", "--role", "manager", "--route", "/v1/*", "--policy", "cheap"]
    limits = ["--rpm", "60", "--tpm", "1000", "--budget-usd", "2.5", "--per", "month"]
    run("create", "--name", "boss", *rights, *limits, "--expires", "30d", *at)
    (listed,) = json.loads(run("list", "--json", *at))
    assert (listed["project"], listed["role"], listed["routes"]) == ("red", "manager", ["/v1/*"])
    assert listed["policies"] == ["cheap"]
    assert listed["limits"] == [
        {"requests": 60, "per": "minute"},
        {"tokens": 1000, "per": "minute"},
        {"usd": 2.5, "per": "month"},
    ]
    assert listed["expires_at"] - listed["created_at"] == pytest.approx(30 * 86_400, abs=5)
    assert "$2.5 per month" in run("list", *at)


def test_a_key_is_looked_after_through_a_running_gateway(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    keys = [{"name": "root", "key": "root-key-1", "role": "admin"}]
    served = serve({"small": remote("small", provider.url)}, keys=keys)
    there = ("--url", served.url, "--key", "root-key-1")
    first = json.loads(run("create", "--name", "team", "--json", *there))["key"]
    second = run("rotate", "team", "--grace", "0s", *there).strip()
    assert first != second
    assert "changed" in run("change", "team", "--budget-usd", "9", "--per", "day", *there)
    listed = json.loads(run("list", "--json", *there))
    assert [key["limits"] for key in listed if key["name"] == "team"] == [
        [{"usd": 9.0, "per": "day"}]
    ]
    assert {"root", "team"} == {each["name"] for each in json.loads(run("list", "--json", *there))}
    assert "revoked" in run("revoke", "team", *there)
    with pytest.raises(GatewayError, match="is revoked"):
        run("revoke", "team", *there)
    with pytest.raises(GatewayError, match=r"not known here$"):
        run("list", "--url", served.url, "--key", "wrong-key-1")
    with pytest.raises(GatewayError, match=r"no API key.*give it with --key or POINTSMAN_KEY$"):
        run("list", "--url", served.url)
    assert "team" in run("list", "--url", f"{served.url}/v1/", "--key", " root-key-1\r\n")
    for name in ("team?", "../keys/team", "team#"):
        with pytest.raises(GatewayError, match=r"no key|there is no POST"):
            run("rotate", name, *there)


@pytest.mark.parametrize("key", ["sk-planted-1\x00x", "sk-planted-1 ключ", "sk-planted\n-1"])
def test_a_key_that_no_header_holds_is_refused_and_not_quoted(key: str) -> None:
    words = ["keys", "list", "--url", "http://127.0.0.1:9", "--key", key]
    told = CliRunner().invoke(app, words, catch_exceptions=False)
    assert told.exit_code == 2
    assert "no key has" in told.output
    assert "planted" not in told.output


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--role", "king"], "role"),
        (["--expert", "a b"], "experts"),
        (["--rpm", "0"], "requests"),
        (["--budget-usd", "1", "--per", "year"], "per"),
        (["--per", "day"], "--per is of a budget"),
        (["--expires", "soon"], "soon"),
        (["--expires", "0d"], "expires_in_s"),
        (["--expires", "99999999999d"], "expires_in_s"),
        (["--rpm", str(2**63)], "requests"),
        (["--tpm", str(2**63)], "tokens"),
        (["--budget-usd", "1e300"], "usd"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value,
)
def test_what_makes_no_sense_is_named(at: tuple[str, str], words: list[str], named: str) -> None:
    with pytest.raises(GatewayError, match=named):
        run("create", "--name", "x", *words, *at)


def test_a_project_with_brackets_is_listed(at: tuple[str, str]) -> None:
    run("create", "--name", "team", "--project", "[/x]", *at)
    assert "[/x]" in run("list", *at)


def test_a_change_at_the_ledger_names_what_changes(at: tuple[str, str]) -> None:
    run("create", "--name", "team", "--rpm", "5", *at)
    run("change", "team", "--expert", "small", *at)
    (listed,) = json.loads(run("list", "--json", *at))
    assert (listed["experts"], listed["limits"]) == (
        ["small"],
        [{"requests": 5, "per": "minute"}],
    )
    with pytest.raises(GatewayError, match="name what is to change"):
        run("change", "team", *at)


@pytest.mark.parametrize(("span", "expected"), [("90s", 90), ("15min", 900), ("2w", 1_209_600)])
def test_lengths_of_time(span: str, expected: float) -> None:
    assert seconds(span) == expected
    with pytest.raises(ConfigError, match="length of time"):
        seconds(f"-{span}")
