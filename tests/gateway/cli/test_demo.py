"""The demo's steps with experts that answer at once; `make demo` runs it with real models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import orjson
import pytest

from experts.fakes.server import Act, FakeServer, ReceivedRequest, serving, whole
from gateway.demo.run import DemoError, rerun_loop, run_demo
from gateway.ledger.database import opened
from gateway.ledger.queries import LedgerReader
from gateway.settings.cards import PricesSettings
from gateway.settings.experts import ExpertSettings, RemoteExpert


class Pupil(FakeServer):
    """Knows one kind of prompt by heart, as far as a word of the prompt tells the kind."""

    def __init__(self, answers: Mapping[str, str]) -> None:
        super().__init__()
        self._answers = answers

    def acts(self, asked: ReceivedRequest) -> Iterator[Act]:
        said = str(asked.body["messages"][-1]["content"])
        answer = next((a for word, a in self._answers.items() if word in said), "No idea")
        message = {"role": "assistant", "content": answer}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": len(said.split()), "completion_tokens": 2}
        yield whole(200, {"choices": [choice], "usage": usage}, {})


def pool_of(**urls: str) -> list[ExpertSettings]:
    return [
        RemoteExpert(id=name, base_url=url, prices=PricesSettings(input=place, output=place))
        for place, (name, url) in enumerate(urls.items(), 1)
    ]


@pytest.fixture
def pool() -> Iterator[list[ExpertSettings]]:
    with serving(Pupil({"capital": "Paris"})) as one, serving(Pupil({"": "positive"})) as other:
        yield pool_of(one=one.url, other=other.url)


@pytest.mark.slow
def test_a_demo_asks_learns_promotes_and_reports_what_the_ledger_proves(
    pool: list[ExpertSettings], tmp_path: Path
) -> None:
    comparison, paths = run_demo(tmp_path, pool=pool)
    assert set(comparison.singles) == {"one", "other"}
    (live,) = comparison.measured
    assert live.name == "auto, live"
    assert sum(live.share.values()) == pytest.approx(1)
    assert all(path.is_file() for path in (paths.report, paths.frontier, paths.metrics))
    shown = orjson.loads((tmp_path / "data/comparison.json").read_bytes())
    assert set(shown["singles"]) == {"one", "other"}
    steps = {step["what"]: step["reason"] for step in shown["loop"]}
    assert "640 requests for $" in steps["asked"]
    assert steps["answers"] == "320 of 320 requests"
    # Nobody here knows a kind of question that others don't: nothing that is learned gets through.
    # By how much depends on how fast the answers came here.
    assert float(steps["refused"].partition("at least ")[2].split()[0]) <= 0
    assert steps["verified"].startswith("sums, references")
    assert "The learning loop, gone through once" in paths.report.read_text()
    promoted = orjson.loads((tmp_path / "data/routers/default/promoted.json").read_bytes())
    assert (tmp_path / "data/routers/default" / promoted["version"] / "manifest.json").is_file()
    with opened(f"sqlite:///{tmp_path}/ledger.db") as engine:
        booked = LedgerReader(engine).totals()
    assert booked["requests"] == booked["outcomes"]
    assert booked["failed"] == 0


def test_an_expert_that_gives_no_answer_ends_it_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match=r"calls gave no answer; the first: .*dead"):
        run_demo(tmp_path, pool=pool_of(dead="http://127.0.0.1:9/v1"))


def test_a_loop_over_no_answers_says_what_to_do_first(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="run the demo without --loop first"):
        rerun_loop(tmp_path)
