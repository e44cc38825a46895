"""pydantic-ai against our endpoint, on every wire that it speaks, over experts of either kind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import anyio
import openai
import pytest
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from experts.base import Expert
from experts.cards import ExpertCard, Prices
from experts.fakes.anthropic import FakeAnthropic, Message, fake_anthropic
from experts.fakes.provider import FakeProvider, Reply
from experts.http.anthropic import AnthropicExpert

Serve = Callable[..., Any]
Remote = Callable[..., Expert]
CITIES = (("call_1", "Lima"), ("call_2", "Oslo"))
ANSWER = "Lima 21 degrees, Oslo 4 degrees."


class Report(BaseModel):
    warmest: str
    degrees: int


@pytest.fixture
def claude() -> Iterator[FakeAnthropic]:
    with fake_anthropic() as running:
        yield running


@pytest.fixture
def served(serve: Serve, remote: Remote, provider: FakeProvider, claude: FakeAnthropic) -> Any:
    able: Any = {"tools": True, "structured_output": True}
    card = ExpertCard("claude", prices=Prices(3, 15), wire="anthropic", params="drop", **able)
    return serve(
        {
            "small": remote("small", provider.url, **able),
            "claude": AnthropicExpert(card, claude.url, "claude-x"),
        }
    )


@asynccontextmanager
async def chat(url: str, expert: str) -> AsyncIterator[Model]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
        yield OpenAIChatModel(expert, provider=OpenAIProvider(openai_client=client))


@asynccontextmanager
async def responses(url: str, expert: str) -> AsyncIterator[Model]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
        yield OpenAIResponsesModel(expert, provider=OpenAIProvider(openai_client=client))


@asynccontextmanager
async def messages(url: str, expert: str) -> AsyncIterator[Model]:
    async with anthropic.AsyncAnthropic(base_url=url, api_key="x", max_retries=0) as client:
        yield AnthropicModel(expert, provider=AnthropicProvider(anthropic_client=client))


every_wire = pytest.mark.parametrize("wire", [chat, responses, messages], ids=lambda w: w.__name__)
every_expert = pytest.mark.parametrize("expert", ["small", "claude"])
whole_and_streamed = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


def script(provider: FakeProvider, claude: FakeAnthropic) -> None:
    """Two calls at once, then an answer, whoever is asked."""
    calls = tuple(
        {
            "id": name,
            "type": "function",
            "function": {"name": "degrees", "arguments": f'{{"city": "{city}"}}'},
        }
        for name, city in CITIES
    )
    provider.script.append(Reply("", tool_calls=calls, finish="tool_calls"))
    provider.otherwise = Reply(ANSWER)
    uses = tuple(
        {"type": "tool_use", "id": name, "name": "degrees", "input": {"city": city}}
        for name, city in CITIES
    )
    claude.script.append(Message(uses, "tool_use"))
    claude.otherwise = Message(({"type": "text", "text": ANSWER},))


@every_wire
@every_expert
@whole_and_streamed
def test_an_agent_runs_its_tools_until_it_has_an_answer(
    served: Any,
    provider: FakeProvider,
    claude: FakeAnthropic,
    wire: Any,
    expert: str,
    streamed: bool,
) -> None:
    script(provider, claude)
    asked: list[str] = []

    async def run() -> tuple[str, int]:
        async with wire(served.url, expert) as model:
            agent = Agent(model)

            @agent.tool_plain
            def degrees(city: str) -> int:
                """How warm it is in a city."""
                asked.append(city)
                return {"Lima": 21, "Oslo": 4}[city]

            if not streamed:
                whole = await agent.run("How warm?")
                return whole.output, whole.usage.requests
            async with agent.run_stream("How warm?") as stream:
                text = "".join([piece async for piece in stream.stream_text(delta=True)])
                return text, stream.usage.requests

    assert anyio.run(run) == (ANSWER, 2)
    assert sorted(asked) == ["Lima", "Oslo"]
    assert told_back(expert, provider, claude) == {"call_1": "21", "call_2": "4"}
    assert served.verified().faults == ()
    assert served.totals()["requests"] == 2


def told_back(expert: str, provider: FakeProvider, claude: FakeAnthropic) -> dict[str, str]:
    """What the expert heard of each call in the second request."""
    if expert == "small":
        turns = provider.bodies[-1]["messages"]
        return {t["tool_call_id"]: t["content"] for t in turns if t["role"] == "tool"}
    blocks = [
        block
        for turn in claude.bodies[-1]["messages"]
        if isinstance(turn["content"], list)
        for block in turn["content"]
        if block["type"] == "tool_result"
    ]
    return {block["tool_use_id"]: text_of(block["content"]) for block in blocks}


def text_of(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


@every_wire
@every_expert
def test_an_agent_gets_its_type(
    served: Any, provider: FakeProvider, claude: FakeAnthropic, wire: Any, expert: str
) -> None:
    given = {"warmest": "Lima", "degrees": 21}
    call = {"name": "final_result", "arguments": '{"warmest": "Lima", "degrees": 21}'}
    calls = ({"id": "call_1", "type": "function", "function": call},)
    provider.otherwise = Reply("", tool_calls=calls, finish="tool_calls")
    use = {"type": "tool_use", "id": "call_1", "name": "final_result", "input": given}
    claude.otherwise = Message((use,), "tool_use")

    async def run() -> Report:
        async with wire(served.url, expert) as model:
            found = await Agent(model, output_type=Report).run("How warm?")
            return found.output

    assert anyio.run(run) == Report(warmest="Lima", degrees=21)
