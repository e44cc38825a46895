"""The compositions of config/compositions.yaml over real local models, through the endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from gateway.cli.endpoint import running_gateway
from gateway.ledger.database import opened
from gateway.ledger.verify import verify_ledger
from gateway.settings.load import read_configuration

CONFIG = Path(__file__).parents[2] / "config" / "compositions.yaml"


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made") / "ledger.db"


@pytest.fixture(scope="module")
def client(ledger: Path) -> Iterator[httpx2.Client]:
    pytest.importorskip("xllamacpp", reason="the extra `local` is not installed")
    more = f"data_dir: {ledger.parent}\nledger: {{url: 'sqlite:///{ledger}'}}\n"
    settings = read_configuration(CONFIG.read_text() + more, CONFIG.name).settings
    with (
        running_gateway(settings, seed=0) as url,
        httpx2.Client(base_url=url, timeout=120.0, trust_env=False) as open_client,
    ):
        yield open_client


def asked(client: httpx2.Client, model: str, question: str, **fields: Any) -> httpx2.Response:
    messages = [{"role": "user", "content": question}]
    body = {"model": model, "max_tokens": 12, "messages": messages, **fields}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer


def calls(client: httpx2.Client, answer: httpx2.Response) -> Sequence[dict[str, Any]]:
    """The tree below the composition, checked against headers and sums."""
    found = client.get(f"/v1/decisions/{answer.headers['x-pointsman-decision-id']}").json()
    (root,) = found["cost"]["attempts"]
    attempts = found["attempts"]
    assert int(answer.headers["x-pointsman-attempts"]) == len(attempts)
    assert sum(a["cost_nanousd"] or 0 for a in attempts) == found["result"]["cost_nanousd"]
    children: Sequence[dict[str, Any]] = root["children"]
    return children


@pytest.mark.slow
def test_a_cascade_of_a_calculator_and_a_model(client: httpx2.Client) -> None:
    sum_ = asked(client, "sums-first", "What is 17 * 23?")
    assert "391" in sum_.json()["choices"][0]["message"]["content"]
    assert [child["expert"] for child in calls(client, sum_)] == ["calculator"]
    capital = asked(client, "sums-first", "What is the capital of Peru?", temperature=0)
    assert "Lima" in capital.json()["choices"][0]["message"]["content"]
    assert [child["expert"] for child in calls(client, capital)] == ["calculator", "smollm2"]
    assert capital.json()["model"] == "sums-first"


@pytest.mark.slow
def test_a_model_that_agrees_with_itself_needs_no_other(client: httpx2.Client) -> None:
    sure = asked(client, "sure", "What is the capital of Peru?", temperature=0)
    # Without chance all three samples are the same.
    assert [child["expert"] for child in calls(client, sure)] == ["smollm2"] * 3
    assert "Lima" in sure.json()["choices"][0]["message"]["content"]


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_vote_of_real_samples_is_billed_for_all_of_them(
    client: httpx2.Client, stream: bool
) -> None:
    more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    answer = asked(client, "poll", "What is the capital of France?", **more)
    usage = _usage(answer, stream)
    children = calls(client, answer)
    assert {child["expert"] for child in children} == {"smollm2", "gemma"}
    assert len(children) <= 6
    assert usage["completion_tokens"] > 6, "of all samples, not of one"


def _usage(answer: httpx2.Response, stream: bool) -> dict[str, Any]:
    if not stream:
        found: dict[str, Any] = answer.json()["usage"]
        return found
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
    pieces = [orjson.loads(line) for line in lines]
    told: dict[str, Any] = next(piece["usage"] for piece in pieces if piece.get("usage"))
    return told


@pytest.mark.slow
def test_compositions_nest_and_auto_may_choose_one(client: httpx2.Client, ledger: Path) -> None:
    careful = asked(client, "careful", "What is the capital of Peru?")
    first, second, *_ = calls(client, careful)
    assert first["expert"] == "calculator"
    assert second["expert"] == "careful/2"
    assert len(second["children"]) in (2, 3)
    wished = {"experts": ["poll", "sure"]}
    chosen = asked(client, "auto", "What is the capital of Peru?", pointsman=wished)
    assert chosen.headers["x-pointsman-expert"] in ("poll", "sure")
    assert calls(client, chosen)
    with opened(f"sqlite:///{ledger}") as engine:
        assert verify_ledger(engine).faults == ()
