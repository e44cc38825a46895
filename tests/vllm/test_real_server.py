"""A real vLLM server on the CPU, in the order of a day: it serves, sleeps, is killed, is stopped.

The weights are random, so what it says means nothing; that it says the same again does.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from experts.engines.states import EngineStatus
from tests.engine_rig import Rig, asked
from tests.experts.engines.test_llama import ended
from tests.vllm.tiny_llama import BLANKS

pytestmark = pytest.mark.vllm

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Lima", "Oslo"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
FORCED: dict[str, Any] = {"tools": [WEATHER], "max_tokens": 150, "logit_bias": BLANKS}
FORCED |= {"tool_choice": {"type": "function", "function": {"name": "weather"}}}
LONG = {"max_tokens": 64, "ignore_eos": True, "stream": True}


def events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """What a stream says, up to the end that it must come to."""
    for line in lines:
        if line == "data: [DONE]":
            return
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))
    raise AssertionError("the stream broke off")


def streamed(rig: Rig, model: str, **body: Any) -> list[dict[str, Any]]:
    wanted = asked(model, stream=True, **body)
    with rig.client.stream("POST", "/v1/chat/completions", json=wanted) as answer:
        assert answer.headers["x-pointsman-expert"] == model
        return [choice for each in events(answer.iter_lines()) for choice in each["choices"]]


def test_it_is_ready_when_it_has_written_a_token(rig: Rig) -> None:
    assert rig.state.status is EngineStatus.READY
    assert rig.state.start_s is not None
    load = rig.supervisor.load("tiny")
    assert load is not None
    assert load.tokens > 0
    assert load.kv_used == 0
    assert load.prefix_queries > 0


def test_it_chats_with_logprobs_whole_and_streamed(rig: Rig) -> None:
    answer = rig.ask("tiny", logprobs=True, top_logprobs=2)
    choice = answer.json()["choices"][0]
    tokens = choice["logprobs"]["content"]
    assert len(tokens) == answer.json()["usage"]["completion_tokens"] == 12
    assert all(len(token["top_logprobs"]) == 2 for token in tokens)
    choices = streamed(rig, "tiny", logprobs=True)
    text = "".join(each["delta"].get("content") or "" for each in choices)
    assert text == choice["message"]["content"]
    said = [each["logprobs"]["content"] for each in choices if each.get("logprobs")]
    assert sum(map(len, said)) == 12


def test_it_calls_tools_whole_and_streamed(rig: Rig) -> None:
    answer = rig.ask("tiny", **FORCED)
    assert "tool_calls" in answer.text, answer.text
    [call] = answer.json()["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "weather"
    assert json.loads(call["function"]["arguments"])["city"] in ("Lima", "Oslo")
    pieces = [
        piece["function"]
        for choice in streamed(rig, "tiny", **FORCED)
        for piece in choice["delta"].get("tool_calls") or ()
    ]
    assert "".join(piece.get("name") or "" for piece in pieces) == "weather"
    whole = "".join(piece.get("arguments") or "" for piece in pieces)
    assert json.loads(whole) == json.loads(call["function"]["arguments"])


def test_its_adapters_are_experts_of_their_own(rig: Rig) -> None:
    before = {name: rig.text(name) for name in ("tiny", "law", "art")}
    assert len(set(before.values())) == 3
    routed = rig.ask("auto", pointsman={"experts": ["law"]})
    assert routed.headers["x-pointsman-expert"] == "law"
    assert routed.json()["choices"][0]["message"]["content"] == before["law"]
    rig.supervisor.stop("law")
    rig.expect_out("law")
    assert rig.text("art") == before["art"]
    rig.supervisor.start("law")
    rig.expect_back("law")
    assert {name: rig.text(name) for name in before} == before


def test_an_adapter_that_is_not_there_takes_nobody_down(rig: Rig) -> None:
    assert list(rig.state.faults) == ["bad"]
    assert "nowhere: " in rig.state.faults["bad"]
    rig.expect_out("bad")


@pytest.mark.parametrize("level", [1, 2])
def test_it_sleeps_and_wakes(level: int, rig: Rig) -> None:
    """A CPU build goes through all the steps and frees nothing, as vLLM says in its log."""
    before = rig.text("tiny"), rig.text("law")
    rig.supervisor.sleep("tiny", level)
    assert (rig.state.status, rig.state.level) == (EngineStatus.ASLEEP, level)
    key = {"authorization": f"Bearer {rig.supervisor.api_key('tiny')}"}
    root = rig.state.base_url.removesuffix("/v1")
    assert httpx2.get(f"{root}/is_sleeping", headers=key, timeout=60).json() == {
        "is_sleeping": True
    }
    rig.supervisor.wake("tiny")
    rig.expect_back("tiny")
    assert rig.state.wake_s is not None
    assert rig.state.sleep_s is not None
    assert (rig.text("tiny"), rig.text("law")) == before


@pytest.mark.parametrize("path", ["/sleep?level=1", "/collective_rpc", "/v1/completions"])
def test_nobody_else_on_the_machine_may_use_it(path: str, rig: Rig) -> None:
    root = rig.state.base_url.removesuffix("/v1")
    assert (
        httpx2.post(root + path, json={"method": "reload_weights"}, timeout=60).status_code == 401
    )
    assert httpx2.get(f"{root}/metrics", timeout=60).status_code == 401


def test_killed_it_is_missed_replaced_and_back(rig: Rig) -> None:
    before = rig.text("tiny"), rig.text("art")
    guard = rig.state.pid
    family = _descendants(guard)
    assert len(family) >= 2, "the server and the process that computes"
    while not rig.changes.empty():
        rig.changes.get_nowait()
    os.kill(family[0], signal.SIGKILL)
    down = rig.expect(EngineStatus.DOWN)
    assert down.last_error == f"ended with exit code {128 + signal.SIGKILL}"
    assert all(ended(pid) for pid in family), "an orphan would keep its memory"
    answer = rig.ask("tiny")
    assert answer.status_code == 200
    assert answer.headers["x-pointsman-expert"] == "stand-in"
    again = rig.expect(EngineStatus.READY)
    assert again.restarts == 1
    assert again.pid != guard
    assert list(again.faults) == ["bad"]
    rig.expect_back("tiny")
    assert (rig.text("tiny"), rig.text("art")) == before


def test_draining_loses_no_request(rig: Rig) -> None:
    begun = [threading.Event() for _ in range(8)]

    def one(number: int) -> None:
        wanted = asked("tiny" if number % 2 else "law", **LONG)
        with rig.client.stream("POST", "/v1/chat/completions", json=wanted) as answer:
            finish = None
            for event in events(answer.iter_lines()):
                begun[number].set()
                for choice in event["choices"]:
                    finish = choice["finish_reason"] or finish
            assert finish == "length"

    with ThreadPoolExecutor(len(begun)) as pool:
        streams = [pool.submit(one, number) for number in range(len(begun))]
        assert all(event.wait(60) for event in begun)
        load = rig.supervisor.load("tiny")
        assert load is not None
        assert load.under_way == len(begun)
        rig.supervisor.stop("tiny")
        for stream in streams:
            stream.result(60)
    assert rig.state.status is EngineStatus.STOPPED
    assert rig.ask("tiny").headers["x-pointsman-expert"] == "stand-in"


def _descendants(pid: int | None) -> list[int]:
    """All processes below one, parents before their children."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    below = [_descendants(int(child)) for child in found]
    return [int(child) for child in found] + [each for some in below for each in some]
