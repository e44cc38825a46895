"""What people see and type: commands against a gateway that runs, and without one."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy import text

from eval.errors import SourceError
from experts.base import Expert
from experts.cards import Prices
from experts.fakes.provider import FakeProvider, Reply
from gateway.cli import progress
from gateway.cli.main import main
from gateway.errors import ConfigError, GatewayError, LedgerError
from gateway.ledger.database import opened
from gateway.ledger.export import count_scored
from tests.commands import run
from tests.conftest import Serve, Served

Remote = Callable[..., Expert]


@pytest.fixture
def served(serve: Serve, remote: Remote, provider: FakeProvider) -> Served:
    return serve({"small": remote("small", provider.url, Prices(1, 2))})


@pytest.fixture
def config(tmp_path: Path, provider: FakeProvider) -> Path:
    """A configuration for commands that start a gateway of their own."""
    path = tmp_path / "config.yaml"
    prices = {"input": 1, "output": 2}
    content = {
        "experts": [
            {"id": "small", "base_url": provider.url, "prices": prices},
            {"kind": "calculator"},
        ],
        "ledger": {"url": f"sqlite:///{tmp_path}/own.db"},
        "data_dir": str(tmp_path / "data"),
        "server": {"port": 9},
    }
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    check = {"kind": "mentions", "answers": ["Hello"]}
    lines = [
        json.dumps({"query_id": f"q{n}", "task": "greet", "prompt": f"Say {n}", "check": check})
        for n in range(4)
    ]
    path.write_text("\n".join(lines))
    return path


def test_a_question_is_answered_and_who_answered_is_told(
    served: Served, provider: FakeProvider
) -> None:
    provider.otherwise = Reply("[bold]Hello[/] there :x:")
    told = run("chat", "Hi", "--url", served.url, "--model", "small", "--max-tokens", "9")
    # What a model writes is shown as it is, never read as markup.
    assert told.stdout == "[bold]Hello[/] there :x:\n"
    assert "small answered in" in told.stderr
    assert "for $" in told.stderr
    assert provider.bodies[-1]["max_tokens"] == 9


def test_a_model_writes_to_the_terminal_and_does_nothing_else_there(
    served: Served, provider: FakeProvider
) -> None:
    provider.otherwise = Reply("a\x1b[2J\x9b2Jb\nc \u200dé")
    told = run("chat", "Hi", "--url", served.url, "--model", "small")
    assert told.stdout == "a[2J2Jb\nc \u200dé\n"


def test_a_talk_goes_on_with_what_was_said_until_an_empty_line(
    served: Served, provider: FakeProvider
) -> None:
    run("chat", "--url", f"{served.url}/", "--model", "small", said="One\nTwo\n\nThree\n")
    roles = [[m["role"] for m in body["messages"]] for body in provider.bodies]
    assert roles == [["user"], ["user", "assistant", "user"]]
    assert provider.bodies[-1]["messages"][1]["content"] == "Hello there"
    run("chat", "--url", served.url, "--model", "small", said="One")
    assert len(provider.bodies) == 3


def test_why_there_is_no_answer_is_one_sentence(
    served: Served, provider: FakeProvider, serve: Serve
) -> None:
    with pytest.raises(GatewayError, match="the model 'nobody' does not exist"):
        run("chat", "Hi", "--url", served.url, "--model", "nobody")
    with pytest.raises(GatewayError, match=r"no gateway answers at http://127\.0\.0\.1:9"):
        run("chat", "Hi", "--url", "http://127.0.0.1:9")
    provider.otherwise = Reply("one two three", cut_after=2)
    broken = serve(served.gateway.pool.experts, execution={"mid_stream": "error"})
    with pytest.raises(GatewayError, match="small: "):
        run("chat", "Hi", "--url", broken.url, "--model", "small")
    with pytest.raises(GatewayError, match="no page here"):
        run("chat", "Hi", "--url", page_server(provider), "--model", "small")


def page_server(provider: FakeProvider) -> str:
    """Something that is no gateway of ours."""
    provider.otherwise = Reply(status=404, error={"message": "no page here"})
    return provider.url


def test_without_a_gateway_a_command_starts_its_own(config: Path, provider: FakeProvider) -> None:
    told = run("chat", "Hi", "--config", str(config), "--model", "small")
    assert "starting one for this command" in told.stderr
    assert told.stdout == "Hello there\n"
    stats = json.loads(run("ledger", "stats", "--config", str(config), "--json").stdout)
    assert stats["totals"]["requests"] == 1


def test_costs_are_corrected_and_budgets_left_as_they_are(config: Path) -> None:
    run("chat", "Hi", "--config", str(config), "--model", "small")
    words = ["--since", "2020-01-01", "--input", "10", "--output", "100", "--config", str(config)]
    words = ["ledger", "reprice", "--expert", "small", *words]
    assert "1 of 1 attempts would be corrected" in run(*words, "--dry-run").stdout
    done = run(*words)
    assert "1 of 1 attempts were corrected: $0.0003" in done.stdout
    assert "budgets keep what they were charged" in done.stderr
    assert json.loads(run(*words, "--json").stdout)["corrected"] == 0
    assert "the ledger holds" in run("ledger", "verify", "--config", str(config)).stdout
    with pytest.raises(ConfigError, match="the ledger knows no expert 'smal'"):
        run(*[word.replace("small", "smal") for word in words])
    with pytest.raises(ConfigError, match="2019-01-01 is not after --since 2020-01-01"):
        run(*words, "--until", "2019-01-01")


def test_texts_are_forgotten_when_somebody_says_when(config: Path) -> None:
    content = json.loads(config.read_text())
    config.write_text(json.dumps(content | {"ledger": {**content["ledger"], "text": "full"}}))
    run("chat", "Hi", "--config", str(config), "--model", "small")
    with pytest.raises(GatewayError, match=r"set ledger\.keep_text_days"):
        run("ledger", "forget", "--config", str(config))
    words = ["ledger", "forget", "--days", "0", "--config", str(config), "--json"]
    assert json.loads(run(*words).stdout)["requests"] == 1
    assert json.loads(run(*words).stdout)["requests"] == 0


def test_experts_are_listed_with_where_they_answer(config: Path, provider: FakeProvider) -> None:
    rows = json.loads(run("experts", "list", "--config", str(config), "--json").stdout)
    prices = [row.pop("prices") for row in rows]
    assert rows == [
        {"expert": "small", "kind": "openai", "where": provider.url},
        {"expert": "calculator", "kind": "calculator", "where": "in the gateway"},
    ]
    assert [(each["input"], each["output"], each["source"]) for each in prices] == [
        (1.0, 2.0, "config"),
        (0.0, 0.0, "runs in the gateway"),
    ]
    shown = run("experts", "list", "--config", str(config)).stdout
    assert provider.url in shown


def test_experts_are_listed_with_the_day_of_their_prices(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    entry = {"id": "gpt", "provider": "openai", "model": "gpt-4o-mini", "api_key": "x"}
    config.write_text(json.dumps({"experts": [entry]}))
    (row,) = json.loads(run("experts", "list", "--config", str(config), "--json").stdout)
    source = r"genai-prices [\d.]+ as of \d{4}-\d\d-\d\d: .*gpt-4o-mini"
    assert re.fullmatch(source, row["prices"]["source"])


def test_what_a_collection_has_is_not_asked_again(
    config: Path, prompts: Path, provider: FakeProvider, tmp_path: Path
) -> None:
    words = ["collect", "--prompts", str(prompts), "--experts", "small", "--config", str(config)]
    out = tmp_path / "a.csv"
    first = run(*words, "--collection", "mine", "--out", str(out))
    assert "4 answers booked under the tag collection=mine" in first.stderr
    assert len(out.read_text().splitlines()) == 5
    again = run(*words, "--collection", "mine")
    assert "4 were booked there before and not asked again" in again.stderr
    assert len(provider.bodies) == 4
    # Without a name it is another collection each time.
    run(*words)
    assert len(provider.bodies) == 8
    provider.otherwise = Reply(status=400)
    with pytest.raises(ConfigError, match="4 calls failed; first: "):
        run(*words)
    # What can't be written is told before anybody is asked.
    for nowhere, why in ((tmp_path / "no" / "a.csv", "there is no folder"), (out / "a", "ext")):
        with pytest.raises(SourceError, match=why):
            run(*words, "--out", str(nowhere))
    assert len(provider.bodies) == 12


def test_answers_without_a_check_are_not_asked_for_again_either(
    config: Path, provider: FakeProvider, tmp_path: Path
) -> None:
    prompts = tmp_path / "unchecked.jsonl"
    prompts.write_text('{"query_id": "q", "prompt": "Say something"}')
    words = ["collect", "--prompts", str(prompts), "--experts", "small", "--config", str(config)]
    run(*words, "--collection", "mine")
    assert "1 were booked there before" in run(*words, "--collection", "mine").stderr
    assert len(provider.bodies) == 1


def test_answers_whose_grades_were_lost_are_graded_and_not_asked_for(
    config: Path, prompts: Path, provider: FakeProvider, tmp_path: Path
) -> None:
    words = ["collect", "--prompts", str(prompts), "--experts", "small", "--config", str(config)]
    run(*words, "--collection", "mine")
    with opened(f"sqlite:///{tmp_path}/own.db") as engine:
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM outcome"))
        assert count_scored(engine) == 0
        run(*words, "--collection", "mine")
        assert count_scored(engine) == 4
    assert len(provider.bodies) == 4


def test_a_cluster_must_be_told_where_the_gateway_is(prompts: Path) -> None:
    with pytest.raises(ConfigError, match="--ray needs --url"):
        run("collect", "--prompts", str(prompts), "--ray", "head:6379")


def test_the_ledger_is_summed_up_for_people_and_taken_out_as_a_table(
    config: Path, prompts: Path, tmp_path: Path
) -> None:
    words = ["--config", str(config)]
    run("collect", "--prompts", str(prompts), "--collection", "mine", *words)
    shown = run("ledger", "stats", *words).stdout
    assert "8 requests (0 failed)" in shown
    assert "small" in shown
    table = tmp_path / "out.jsonl"
    told = run("ledger", "export", "--out", str(table), "--tag", "collection=mine", *words)
    assert "8 rows in" in told.stdout
    assert len(table.read_text().splitlines()) == 8
    with pytest.raises(ConfigError, match="must look like name=value"):
        run("ledger", "export", "--out", str(table), "--tag", "mine", *words)
    proven = run("ledger", "verify", *words)
    assert "the ledger holds" in proven.stdout
    rows = json.loads(run("ledger", "verify", "--json", *words).stdout)["rows"]
    assert (rows["request"], rows["outcome"]) == (8, 8)


def test_a_ledger_that_was_changed_is_told_and_the_command_fails(
    config: Path, prompts: Path, tmp_path: Path
) -> None:
    words = ["--config", str(config)]
    run("collect", "--prompts", str(prompts), *words)
    with opened(f"sqlite:///{tmp_path}/own.db") as engine, engine.begin() as connection:
        connection.execute(text("DELETE FROM attempt_result"))
    for form in ([], ["--json"]):
        with pytest.raises(LedgerError, match="the ledger does not hold"):
            run("ledger", "verify", *words, *form)


def test_routers_are_judged_on_a_table_and_shown_as_one(tmp_path: Path) -> None:
    rows = ["query_id,prompt,task,model,score,cost_usd"]
    for n in range(60):
        task = ("sums", "words")[n % 2]
        for model, good, usd in (("small", "sums", 0.001), ("large", "words", 0.01)):
            rows.append(f"q{n},{task} {n},{task},{model},{int(task == good)},{usd}")
    table = tmp_path / "outcomes.csv"
    table.write_text("\n".join(rows))
    words = ["evaluate", "--train", str(table), "--test", str(table), "--routers", "category"]
    told = run(*words, "--report", str(tmp_path / "report"))
    for shown in ("always small", "always large", "router category", "oracle", "quality"):
        assert shown in told.stdout
    assert "100.0 %" in told.stdout
    assert (tmp_path / "report").is_dir()
    found = json.loads(run(*words, "--report", str(tmp_path / "other"), "--json").stdout)
    assert set(found["singles"]) == {"small", "large"}


def test_progress_is_bars_on_a_terminal_and_lines_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=100)
    monkeypatch.setattr(progress, "err", terminal)
    with progress.counting(["one", "two"], 4) as step:
        for _ in range(4):
            step("one")
        step("two")
    assert "4/4" in screen.getvalue()
    assert "1/4" in screen.getvalue()
    with progress.stages() as stage:
        stage("learning", 0.5)
    assert "learning" in screen.getvalue()
    lines: list[str] = []
    monkeypatch.setattr(progress, "err", Console(file=io.StringIO()))
    monkeypatch.setattr(progress, "say", lines.append)
    with progress.counting(["one"], 8) as step:
        for _ in range(8):
            step("one")
    assert [line.split(",")[0].strip() for line in lines] == [
        f"one: {done} of 8" for done in (2, 4, 6, 8)
    ]


def test_what_train_can_not_do_is_told(config: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one of --data FILE and --ledger URL"):
        run("train", "--config", str(config))
    words = ["--data", "x", "--promote", "--out", str(tmp_path / "r"), "--config", str(config)]
    with pytest.raises(ConfigError, match="exclude each other"):
        run("train", *words)
    named = ["--data", str(tmp_path / "x.jsonl"), "--router", "../evil"]
    with pytest.raises(ConfigError, match="is no name of a router"):
        run("train", *named, "--config", str(config))
    assert run("train", "--data", "x", "--seed", "-1").exit_code == 2


def test_a_misspelt_ledger_is_told_and_not_made(tmp_path: Path) -> None:
    nowhere = f"sqlite:///{tmp_path}/ledgre.db"
    for words in (["ledger", "stats"], ["savings"], ["train"]):
        with pytest.raises(LedgerError, match=r"there is no ledger at .*ledgre\.db"):
            run(*words, "--ledger", nowhere)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_ledger_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_text("query_id,prompt\n" * 100)
    with pytest.raises(LedgerError) as caught:
        run("ledger", "stats", "--ledger", f"sqlite:///{path}")
    assert str(caught.value) == (
        f"the database at sqlite:///{path} can't be opened: file is not a database"
    )


def test_the_version_is_told() -> None:
    assert re.fullmatch(r"pointsman \d+\.\d+\.\d+\n", run("--version").stdout)


def test_what_the_disk_refuses_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    with opened(url):
        words = ["rounds", "traces", "--expert", "x", "--ledger", url, "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["pointsman", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"pointsman: '{tmp_path}': Is a directory\n"
    monkeypatch.setattr("sys.argv", ["pointsman", *words[:-1], f"{tmp_path}/no/traces.jsonl"])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err == f"pointsman: there is no folder '{tmp_path}/no'\n"
