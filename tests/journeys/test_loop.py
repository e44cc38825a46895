"""Ask, log, learn, swap: the loop through a running gateway and the real command line."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from typer.testing import CliRunner

from experts.base import Expert
from experts.cards import Prices
from experts.fakes.provider import FakeProvider, Reply, fake_provider
from gateway.cli.main import app
from gateway.collection.collecting import Collecting, Collector, read_prompts
from gateway.errors import ConfigError, LedgerError
from gateway.routing.router_store import RouterStore
from routers.estimators.calibrated import CalibratedEstimator
from routers.estimators.knn import KnnEstimator

Serve = Callable[..., Any]
Remote = Callable[..., Expert]
run = CliRunner()


@pytest.fixture
def other() -> Iterator[FakeProvider]:
    with fake_provider() as running:
        yield running


@pytest.fixture
def served(serve: Serve, remote: Remote, provider: FakeProvider, other: FakeProvider) -> Any:
    """`sums` answers every question with 4, `words` with Lima."""
    provider.otherwise, other.otherwise = Reply("4"), Reply("Lima")
    experts = {
        "sums": remote("sums", provider.url, Prices(1, 1)),
        "words": remote("words", other.url, Prices(2, 2), quality_prior=0.9),
    }
    return serve(experts, routing={"epsilon": 0.0, "reload_s": 0.05})


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """Half sums, half capitals."""
    path = tmp_path / "prompts.jsonl"
    lines = []
    for index in range(30):
        side = index % 2
        text = f"What is {index} minus {index - 4}?" if side else f"Name the capital city {index}"
        check = {"kind": "mentions", "answers": ["4" if side else "Lima"]}
        line = {
            "query_id": f"q{index}",
            "task": "sums" if side else "capitals",
            "prompt": text,
            "check": check,
        }
        lines.append(json.dumps(line))
    path.write_text("\n".join(lines))
    return path


def config_of(served: Any, tmp_path: Path) -> Path:
    settings = served.gateway.settings
    path = tmp_path / "config.yaml"
    experts = [{"id": name, "base_url": "http://127.0.0.1:9/v1"} for name in ("sums", "words")]
    content = {
        "experts": experts,
        "ledger": {"url": settings.ledger.url},
        "data_dir": str(settings.data_dir),
    }
    path.write_text(json.dumps(content))
    return path


def command(*words: str) -> Any:
    result = run.invoke(app, list(words))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def serving_version(served: Any) -> str:
    return str(served.client.get("/health/ready").json()["routers"]["default"])


def await_version(served: Any, version: str) -> None:
    until = time.monotonic() + 60
    while serving_version(served) != version:
        assert time.monotonic() < until, "the gateway did not take the new version up"


def test_from_asking_to_a_promoted_router(served: Any, prompts: Path, tmp_path: Path) -> None:
    config = str(config_of(served, tmp_path))
    ledger = served.gateway.settings.ledger.url
    assert served.ask("auto:best", "What is 9 minus 5?").headers["x-pointsman-expert"] == "words"

    table = str(tmp_path / "outcomes.parquet")
    command("collect", "--prompts", str(prompts), "--url", served.url, "--out", table)
    trained = command(
        "train", "--ledger", ledger, "--estimator", "knn", "--promote", "--json", "--config", config
    )
    version = json.loads(trained.stdout)["version"]
    await_version(served, version)

    assert served.ask("auto:best", "What is 9 minus 5?").headers["x-pointsman-expert"] == "sums"
    capital = served.ask("auto:best", "Name the capital city 8")
    assert capital.headers["x-pointsman-expert"] == "words"
    record = served.record(capital)
    assert record["version"] == version
    assert record["flags"] == []

    stats = json.loads(command("ledger", "stats", "--ledger", ledger, "--json").stdout)
    assert stats["totals"]["requests"] == 63
    assert stats["totals"]["outcomes"] == 60
    assert "holds" in command("ledger", "verify", "--ledger", ledger).stdout
    again = command("train", "--data", table, "--estimator", "knn", "--json", "--config", config)
    assert json.loads(again.stdout)["queries"] == 30


def test_promotion_and_rollback_need_no_restart_and_cut_nothing(
    served: Any, prompts: Path, tmp_path: Path, other: FakeProvider
) -> None:
    config = str(config_of(served, tmp_path))
    command("collect", "--prompts", str(prompts), "--url", served.url)
    versions = []
    for estimator in ("knn", "ridge"):
        words = ["train", "--ledger", served.gateway.settings.ledger.url, "--estimator", estimator]
        trained = command(*words, "--promote", "--json", "--config", config)
        versions.append(json.loads(trained.stdout)["version"])
        await_version(served, versions[-1])
    listed = json.loads(command("routers", "list", "--json", "--config", config).stdout)
    assert [(row["version"], row["serves"]) for row in listed] == [
        (versions[0], ""),
        (versions[1], "*"),
    ]
    command("routers", "rollback", "default", "--config", config)
    await_version(served, versions[0])
    promoted = served.client.post(
        "/admin/routers/default/promote", json={"version": versions[1][:10]}
    )
    assert promoted.json()["serving"] == versions[1]
    assert promoted.json()["history"] == [versions[0]]
    assert served.client.post("/admin/routers/default/rollback").json()["serving"] == versions[0]
    assert served.ask().status_code == 200
    assert served.verified().faults == ()


def test_a_damaged_version_is_reported_and_the_old_one_goes_on(
    served: Any, prompts: Path, tmp_path: Path
) -> None:
    config = str(config_of(served, tmp_path))
    command("collect", "--prompts", str(prompts), "--url", served.url)
    ledger = served.gateway.settings.ledger.url
    trained = command(
        "train", "--ledger", ledger, "--estimator", "knn", "--json", "--config", config
    )
    store = RouterStore(served.gateway.settings.data_dir / "routers")
    version = json.loads(trained.stdout)["version"]
    home = served.gateway.settings.data_dir / "routers" / "default" / version
    for path in home.glob("*.safetensors"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(bytes(content))
    store.promote("default", version)
    until = time.monotonic() + 60
    while not (refused := served.client.get("/health/ready").json()["refused_routers"]):
        assert time.monotonic() < until
    assert "default" in refused
    assert serving_version(served) == "prior"
    assert served.ask().status_code == 200


def test_a_router_that_fails_costs_a_flag_and_no_answer(
    served: Any, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = str(config_of(served, tmp_path))
    command("collect", "--prompts", str(prompts), "--url", served.url)
    words = ["--ledger", served.gateway.settings.ledger.url, "--estimator", "knn", "--promote"]
    trained = command("train", *words, "--json", "--config", config)
    await_version(served, json.loads(trained.stdout)["version"])

    def broken(*_args: object) -> None:
        raise ValueError("a bug in a plugin")

    monkeypatch.setattr(KnnEstimator, "predict", broken)
    monkeypatch.setattr(CalibratedEstimator, "predict", broken)
    answer = served.ask()
    assert answer.status_code == 200
    assert "router_failed" in served.record(answer)["flags"]


def test_training_on_nothing_says_so(served: Any, tmp_path: Path) -> None:
    config = str(config_of(served, tmp_path))
    with pytest.raises(LedgerError, match="no scored answer"):
        command("train", "--ledger", served.gateway.settings.ledger.url, "--config", config)
    with pytest.raises(ConfigError, match="--data FILE and --ledger URL"):
        command("train", "--config", config)


def test_collecting_goes_on_past_failures_and_names_them(
    served: Any, prompts: Path, provider: FakeProvider
) -> None:
    # A failure that is not tried again.
    provider.script.append(Reply(status=401))
    collector = Collector(Collecting(served.url, tags={"run": "r"}))
    gathered = anyio.run(collector.collect, read_prompts(prompts), ["sums"])
    assert len(gathered.rows) == 29
    assert len(gathered.failures) == 1
    assert "status 502" in gathered.failures[0]
    assert {row["score"] for row in gathered.rows} == {0.0, 1.0}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "no JSON"),
        ("[]", "must be an object"),
        ('{"query_id": "a"}', "prompt must be"),
        ('{"query_id": "a", "prompt": "b", "task": 1}', "task must be"),
        ('{"query_id": "a", "prompt": "b", "check": {"kind": "magic"}}', "magic"),
        ('{"query_id": "a", "prompt": "b"}\n{"query_id": "a", "prompt": "c"}', "given twice"),
        ('{"query_id": "a", "prompt": "\udcff"}', "no JSON"),
        ("", "holds no prompts"),
    ],
)
def test_a_wrong_prompts_file_is_refused_with_its_line(
    tmp_path: Path, line: str, words: str
) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(line, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ConfigError, match=r"p\.jsonl") as caught:
        read_prompts(path)
    assert words in str(caught.value)


def test_a_prompt_may_hold_every_end_of_a_line_that_json_lets_it(tmp_path: Path) -> None:
    text = "one\u2028two\u2029three\x85four"
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"query_id": "a", "prompt": text}, ensure_ascii=False), "utf-8")
    assert [prompt.text for prompt in read_prompts(path)] == [text]
