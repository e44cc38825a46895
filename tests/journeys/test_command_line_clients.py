"""Clients that are programs of their own, each in its own process: simonw's llm, and Inspect."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experts.base import Expert
from experts.calculator.calculator import CalculatorExpert
from experts.cards import ExpertCard, Prices
from experts.fakes.provider import FakeProvider, Reply
from experts.fakes.scripted import ScriptedExpert, says
from experts.messages import Usage

Serve = Callable[..., Any]
Remote = Callable[..., Expert]

EVALUATION = """
import sys
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.scorer import match

sums = [(3 * n + 17, n * n + 5) for n in range(1, 11)]
samples = [Sample(input=f"What is {a} * {b}?", target=str(a * b)) for a, b in sums]
(log,) = eval(
    Task(dataset=samples, scorer=match(location="exact")),
    model="openai-api/pointsman/auto",
    display="none",
    log_dir=sys.argv[1],
)
assert log.status == "success", log.error
right = [sample.scores["match"].value == "C" for sample in log.samples]
answered_by = [sample.output.model for sample in log.samples]
accuracy = log.results.scores[0].metrics["accuracy"].value
import json
print(json.dumps({"accuracy": accuracy, "right": right, "answered_by": answered_by}))
"""


def run(*arguments: str, home: Path, **environment: str) -> str:
    """What a program prints; it knows nothing of this machine's keys and settings."""
    known = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    found = subprocess.run(
        arguments,
        env={**known, "HOME": str(home), "NO_PROXY": "127.0.0.1", **environment},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.fixture
def llm(serve: Serve, remote: Remote, provider: FakeProvider, tmp_path: Path) -> Callable[..., str]:
    """simonw's llm, told of one model that is ours."""
    provider.otherwise = Reply("The capital is Lima.")
    served = serve({"small": remote("small", provider.url, tools=True, structured_output=True)})
    model = {"model_id": "pointsman", "model_name": "auto", "api_base": f"{served.url}/v1"}
    able = {"supports_tools": True, "supports_schema": True}
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps([{**model, **able}]))

    def ask(*arguments: str) -> str:
        command = (sys.executable, "-m", "llm", *arguments)
        return run(
            *command,
            home=tmp_path,
            LLM_USER_PATH=str(tmp_path),
            OPENAI_API_KEY="x",
            # A package of a model that is here for its file alone calls itself a plugin.
            LLM_LOAD_PLUGINS="",
        )

    return ask


@pytest.mark.slow
def test_llm_prompts_streamed_and_goes_on_whole(
    llm: Callable[..., str], provider: FakeProvider
) -> None:
    asked = ("-m", "pointsman", "-s", "Be brief.", "Capital of Peru?")
    assert llm(*asked).strip() == "The capital is Lima."
    assert provider.bodies[-1]["stream"] is True
    assert llm("-c", "--no-stream", "Sure?").strip() == "The capital is Lima."
    assert not provider.bodies[-1].get("stream")
    roles = [turn["role"] for turn in provider.bodies[-1]["messages"]]
    assert roles == ["system", "user", "assistant", "user"]


@pytest.mark.slow
def test_llm_runs_a_tool(llm: Callable[..., str], provider: FakeProvider) -> None:
    function = {"name": "times", "arguments": '{"a": 6, "b": 7}'}
    calls = ({"id": "call_1", "type": "function", "function": function},)
    provider.script.append(Reply("", tool_calls=calls, finish="tool_calls"))
    source = "def times(a: int, b: int) -> int:\n    return a * b\n"
    said = llm("-m", "pointsman", "--functions", source, "How much is 6 times 7?")
    assert said.strip() == "The capital is Lima."
    told = provider.bodies[-1]["messages"][-1]
    assert (told["role"], told["content"], told["tool_call_id"]) == ("tool", "42", "call_1")


@pytest.mark.slow
def test_an_evaluation_through_auto_scores_what_the_ledger_says(
    serve: Serve, tmp_path: Path
) -> None:
    card = ExpertCard("guesser", prices=Prices(1, 1), quality_prior=0.5)
    guesser = ScriptedExpert(card, says("about a thousand", Usage(7, output=3)))
    calculator = CalculatorExpert(ExpertCard("calculator", prices=Prices(1, 1), quality_prior=0.5))
    # Half of the decisions are made by chance, so both are asked.
    served = serve({"guesser": guesser, "calculator": calculator}, routing={"epsilon": 0.5})
    script = tmp_path / "evaluation.py"
    script.write_text(EVALUATION)
    printed = run(
        sys.executable,
        str(script),
        str(tmp_path / "logs"),
        home=tmp_path,
        POINTSMAN_BASE_URL=f"{served.url}/v1",
        POINTSMAN_API_KEY="x",
    )
    told = json.loads(printed.splitlines()[-1])
    assert set(told["answered_by"]) == {"guesser", "calculator"}
    assert told["right"] == [name == "calculator" for name in told["answered_by"]]
    assert told["accuracy"] == pytest.approx(told["answered_by"].count("calculator") / 10)
    assert served.verified().faults == ()
    assert served.totals()["requests"] == 10
    booked = {row["expert"]: row["requests"] for row in served.gateway.reader.by_expert()}
    assert booked == {name: told["answered_by"].count(name) for name in booked}
