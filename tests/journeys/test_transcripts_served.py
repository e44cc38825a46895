"""What a dozen providers send, through a whole gateway: the same on its fast path and beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from experts.base import Expert
from experts.cards import ExpertCard, Prices
from experts.fakes.server import LAST_CHUNK, Act, FakeServer, ReceivedRequest, chunk, head, serving
from experts.http.anthropic import AnthropicExpert
from experts.http.openai_compatible import OpenAICompatibleExpert
from tests.contracts.test_transcripts import FOLDER, SAID, expected
from tests.contracts.test_wires import CLIENTS, HELLO
from tests.contracts.wire_fronts import Client

Serve = Callable[..., Any]
PATHS = {
    "openai.chat": "/v1/chat/completions",
    "openai.completions": "/v1/completions",
    "openai.responses": "/v1/responses",
    "anthropic.messages": "/v1/messages",
}


class Transcribed(FakeServer):
    """Answers with the transcript that the path names, in packets of a few hundred bytes."""

    def acts(self, asked: ReceivedRequest) -> Iterator[Act]:
        name = asked.path.split("/")[2]
        if not asked.body.get("stream"):
            content = (FOLDER / f"{name}.json").read_bytes()
            yield head(200, {"content-type": "application/json"}, len(content)) + content
            return
        content = (FOLDER / f"{name}.sse").read_bytes()
        yield head(200, {"content-type": "text/event-stream"}, None)
        for start in range(0, len(content), 300):
            yield chunk(content[start : start + 300])
        yield LAST_CHUNK


@pytest.fixture(params=[True, False], ids=["fast", "ordinary"])
def served(request: pytest.FixtureRequest, serve: Serve) -> Iterator[Any]:
    with serving(Transcribed()) as upstream:
        yield serve(
            {name: expert(name, f"{upstream.url}/{name}") for name in SAID},
            server={"fast_path": request.param},
        )


def expert(name: str, url: str) -> Expert:
    if name == "anthropic":
        card = ExpertCard(name, prices=Prices(1, 2), wire="anthropic", params="drop")
        return AnthropicExpert(card, url, "m")
    return OpenAICompatibleExpert(ExpertCard(name, prices=Prices(1, 2), tools=True), url, "m")


@pytest.mark.parametrize("client", CLIENTS, ids=lambda c: f"from-{c.front.wire}")
def test_every_client_hears_what_every_provider_said(served: Any, client: Client) -> None:
    heard = {}
    for name in SAID:
        for stream in (False, True):
            wanted = replace(HELLO, tools=("weather",) if SAID[name].calls else ())
            body = {**client.body(wanted, stream=stream), "model": name}
            answer = served.client.post(PATHS[client.front.wire], json=body)
            assert answer.status_code == 200, answer.text
            read = client.streamed if stream else client.whole
            heard[name, stream] = read(answer.content)
    assert heard == {(name, stream): expected(name, client) for name, stream in heard}
    assert served.verified().faults == ()
