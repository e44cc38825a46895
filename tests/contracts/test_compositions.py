"""What every composition owes whoever runs, pays for and reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import anyio
import orjson
import pytest

from experts.base import Expert
from experts.cards import NANO_PER_USD
from experts.errors import ExpertUnavailableError
from experts.fakes.scripted import Ending, Hold, ScriptedExpert
from experts.messages import ChatRequest, Message
from gateway.access.keys import Key
from gateway.ask import Ask
from gateway.errors import AllExpertsFailedError
from gateway.pool.composing import BUILDERS
from gateway.settings.children import LISTED
from gateway.settings.compositions import KINDS
from tests.conftest import Served, serving
from tests.contracts.composition_cases import CASES, PRICES, USAGE, Case, children_of, pool_of
from tests.gateway.execution.bench import Bench, Run

kinds = pytest.mark.parametrize("kind", sorted(CASES))


def test_every_kind_is_built_and_under_contract() -> None:
    assert set(CASES) == set(KINDS)
    assert set(BUILDERS) == set(KINDS.values())
    assert set(LISTED) == set(KINDS)


def pool(case: Case, **scripts: Any) -> dict[str, Expert]:
    return pool_of(children_of(case, scripts), {"id": "it", **case.entry})


def cost_nanousd(case: Case) -> int:
    return sum(n * PRICES[name].cost_nanousd(USAGE[name]) for name, n in case.calls.items())


@dataclass(frozen=True, slots=True)
class Scene:
    """A gateway before `a`, `b`, a composition `it` of these, and `outer`: it, and then `b`."""

    case: Case
    served: Served
    children: dict[str, ScriptedExpert]


@pytest.fixture(scope="module", params=sorted(CASES))
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One per kind: to start one costs more than what is asked of it."""
    case = CASES[request.param]
    children = children_of(case)
    outer = {"id": "outer", "cascade": [dict(case.entry), "b"]}
    experts = pool_of(children, {"id": "it", **case.entry}, outer)
    with serving(tmp_path_factory.mktemp(request.param)) as serve:
        served = serve(experts)
        yield Scene(case, served, children)
        assert served.verified().faults == ()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_calls_tokens_and_cost_are_those_of_its_children(scene: Scene, stream: bool) -> None:
    case, served = scene.case, scene.served
    answer = served.ask("it", stream=stream, stream_options={"include_usage": True})
    usage, text = read(answer, stream)
    record = served.record(answer)
    assert text == case.says.get("it", "same")
    (root,) = record["cost"]["attempts"]
    assert root["expert"] == "it"
    made = [child["expert"] for child in root["children"]]
    assert {name: made.count(name) for name in set(made)} == case.calls
    assert record["result"]["cost_nanousd"] == cost_nanousd(case)
    assert record["result"]["cost_complete"] is True
    assert usage["prompt_tokens"] == sum(n * USAGE[x].input for x, n in case.calls.items())
    assert usage["completion_tokens"] == sum(n * USAGE[x].output for x, n in case.calls.items())


def read(answer: Any, stream: bool) -> tuple[dict[str, Any], str]:
    """Usage and text of an answer, and that nothing of how it came about is told in it."""
    assert answer.status_code == 200, answer.text
    if not stream:
        body = answer.json()
        assert set(body) == {"id", "object", "created", "model", "choices", "usage"}
        (choice,) = body["choices"]
        assert set(choice["message"]) <= {"role", "content", "refusal"}
        return body["usage"], choice["message"]["content"]
    pieces = [
        orjson.loads(line.removeprefix("data: "))
        for line in answer.text.splitlines()
        if line.startswith("data: {")
    ]
    deltas = [choice["delta"] for piece in pieces for choice in piece["choices"]]
    assert all(set(delta) <= {"role", "content"} for delta in deltas)
    usage = next(piece["usage"] for piece in pieces if piece.get("usage"))
    return usage, "".join(delta.get("content") or "" for delta in deltas)


def test_it_nests(scene: Scene) -> None:
    case, served = scene.case, scene.served
    record = served.record(served.ask("outer"))
    (root,) = record["cost"]["attempts"]
    inner, last = root["children"]
    assert inner["expert"] == "outer/1"
    assert len(inner["children"]) == sum(case.calls.values())
    assert last["expert"] == "b"
    extra = PRICES["b"].cost_nanousd(USAGE["b"])
    assert record["result"]["cost_nanousd"] == cost_nanousd(case) + extra


def test_a_client_that_leaves_stops_every_child(scene: Scene) -> None:
    hold, children, gateway = Hold(), scene.children.values(), scene.served.gateway
    before = {child: len(child.calls) for child in children}
    plays = {child: child.scripts for child in children}
    for child in children:
        child.scripts = ([hold],)
    ask = Ask(ChatRequest((Message("user", "Hi"),)), "it", "openai.chat", Key("k"))

    async def leave() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gateway.service.answer, ask)
            await hold.reached.wait()
            tasks.cancel_scope.cancel()
        await gateway.ledger.flush()

    anyio.run(leave)
    for child in children:
        child.scripts = plays[child]
    calls = [call for child in children for call in child.calls[before[child] :]]
    assert calls
    assert {call.ending for call in calls} == {Ending.CLOSED}
    (row,) = gateway.reader.recent(1)
    assert row["status"] == 499


def run_alone(experts: dict[str, Expert], **request: Any) -> Run:
    """One request to `it`, carried out with its books in memory."""
    bench = Bench(experts["it"], explicit=True)
    return anyio.run(lambda: bench.run(stream=False, **request))


@kinds
@pytest.mark.parametrize("broken", ["a", "b"])
def test_it_does_without_a_child_that_fails(kind: str, broken: str) -> None:
    case = CASES[kind]
    if broken in case.needs:
        pytest.skip(f"{kind} can't do without {broken}")
    run = run_alone(pool(case, **{broken: [ExpertUnavailableError(broken, "down")]}))
    assert run.error is None
    assert run.execution.answered_by == "it"
    assert {status for name, status, _ in run.book.attempts() if name == broken} == {"failed"}


@kinds
def test_without_any_child_it_fails_with_what_they_said(kind: str) -> None:
    down = [ExpertUnavailableError("x", "down")]
    run = run_alone(pool(CASES[kind], a=down, b=down))
    assert isinstance(run.error, AllExpertsFailedError)
    assert "down" in str(run.error)


@kinds
@pytest.mark.parametrize("cap_usd", [1e-9, 2e-4, 1e-3, 3e-3, 1e-2])
def test_it_never_costs_more_than_its_cap(kind: str, cap_usd: float) -> None:
    case = CASES[kind]
    entry = {"id": "it", **case.entry, "cap_usd": cap_usd}
    run = run_alone(pool_of(children_of(case), entry), max_tokens=50)
    if run.error is not None:
        assert [cause.kind for cause in run.causes] == ["over_cap"]
    assert run.booking.cost_nanousd <= cap_usd * NANO_PER_USD
