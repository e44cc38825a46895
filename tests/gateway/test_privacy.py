"""Data goes to nobody who may not be sent data of its class, whichever way a request takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experts.cards import PRIVACY, ExpertCard, Prices, Privacy, strictest
from experts.errors import (
    ExpertCallError,
    ExpertError,
    ExpertUnavailableError,
    ExpertUnsupportedError,
)
from experts.fakes.scripted import Script, ScriptedExpert, Sleep, says
from experts.messages import ChatRequest, Message, Usage, collect
from gateway.access.keys import Key
from gateway.ask import Ask, Wishes
from gateway.booking import Attempt
from gateway.errors import GatewayError
from gateway.execution.attempt import Attempts
from gateway.execution.traffic import Terms, Traffic
from gateway.pool.pool import build_experts
from gateway.settings.access import Grant
from gateway.settings.root import Settings
from gateway.state import Gateway
from gateway.wiring import build_gateway, rebuild_gateway
from routers.errors import NoEligibleExpertError, RoutingError

Serve = Callable[..., Any]
USED = Usage(input=9, output=3)
NAMES = ("a", "b", "c", "d")
SECRET = "the secret is at jo@example.org"
CLASSES = st.sampled_from(PRIVACY)
SCRIPTS: Mapping[str, Script] = {
    "answers": says("SCORE: 7. BETTER: A. Yes.", USED),
    "fails": (ExpertUnavailableError("x", "is down"),),
    "hangs": (Sleep(0.02), *says("late", USED)),
}


@dataclass(frozen=True)
class World:
    """A pool and a configuration around it, and one request."""

    classes: tuple[Privacy, ...]
    scripts: tuple[str, ...]
    fallbacks: Mapping[str, list[str]]
    model: str
    wish: Privacy
    of_key: Privacy
    of_project: Privacy
    of_policy: Privacy
    of_guard: Privacy
    judge: str
    stream: bool
    cached: bool

    @property
    def privacy(self) -> Privacy:
        """The class that the request has, all in all."""
        policy = self.of_policy if self.model == "auto" else "public"
        return strictest(self.wish, self.of_key, self.of_project, self.of_guard, policy)

    def expert(self, place: int) -> ScriptedExpert:
        card = ExpertCard(
            NAMES[place], prices=Prices(1, 1), max_output_tokens=9, privacy=self.classes[place]
        )
        return ScriptedExpert(card, SCRIPTS[self.scripts[place]])

    def settings(self, folder: Path) -> Settings:
        models = [{"id": name, "base_url": "http://127.0.0.1:9/v1"} for name in NAMES]
        composed = [
            {"id": "chain", "kind": "cascade", "children": ["a", "b", "c"]},
            {"id": "panel", "kind": "vote", "of": ["b", "d"], "min_successful": 1},
            {"id": "pick", "kind": "best_of", "of": ["a", "panel"], "judge": "c"},
        ]
        return Settings.model_validate(
            {
                "experts": [*models, *composed],
                "data_dir": str(folder),
                "ledger": {"url": f"sqlite:///{folder}/ledger.db"},
                "routing": {"epsilon": 0.5, "policies": {"balanced": {"privacy": self.of_policy}}},
                "execution": {
                    "fallbacks": self.fallbacks,
                    "hedge_after_s": 0.005,
                    "max_retries": 1,
                    "backoff_s": 0.001,
                },
                "access": {"projects": {"p": {"privacy": self.of_project}}},
                "guards": [
                    {"kind": "pii", "action": "flag", "on": ["input"], "privacy": self.of_guard}
                ],
                "judges": [
                    {"name": "j", "expert": self.judge, "rate": 1, "budget_usd": 9, "when": "all"}
                ],
                "shadow": {"share": 1.0, "budget_usd": 100.0},
                "cache": {"exact": self.cached},
            }
        )

    @property
    def ask(self) -> Ask:
        request = ChatRequest((Message("user", SECRET),), max_tokens=9, stream=self.stream)
        key = Key("k", Grant(project="p", privacy=self.of_key))
        return Ask(request, self.model, "openai.chat", key, Wishes(privacy=self.wish))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    four = st.lists
    return World(
        classes=tuple(draw(four(CLASSES, min_size=4, max_size=4))),
        scripts=tuple(draw(four(st.sampled_from(sorted(SCRIPTS)), min_size=4, max_size=4))),
        fallbacks=draw(
            st.dictionaries(
                st.sampled_from(NAMES),
                st.lists(st.sampled_from([*NAMES, "chain", "pick"]), unique=True, max_size=3),
                max_size=2,
            )
        ),
        model=draw(st.sampled_from(["auto", "auto", "auto:best", "a", "chain", "panel", "pick"])),
        wish=draw(CLASSES),
        of_key=draw(CLASSES),
        of_project=draw(st.sampled_from(["public", "public", "internal", "private"])),
        of_policy=draw(st.sampled_from(["public", "public", "internal", "private"])),
        of_guard=draw(st.sampled_from(["public", "public", "internal", "private"])),
        judge=draw(st.sampled_from(["auto:best", "a", "d"])),
        stream=draw(st.booleans()),
        cached=draw(st.booleans()),
    )


@pytest.fixture(scope="module")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal("asyncio") as running:
        yield running


@pytest.fixture(scope="module")
def first(portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose books all others are built on."""
    folder = tmp_path_factory.mktemp("private")
    settings = Settings.model_validate(
        {
            "experts": [{"id": "a", "base_url": "http://127.0.0.1:9/v1"}],
            "data_dir": str(folder),
            "ledger": {"url": f"sqlite:///{folder}/ledger.db"},
        }
    )
    gateway = portal.call(lambda: _built(settings))
    yield gateway
    portal.call(anyio.to_thread.run_sync, gateway.ledger.close)


async def _built(settings: Settings) -> Gateway:
    return build_gateway(settings, build_experts(settings, {}), seed=1)


async def _served(first: Gateway, world: World) -> tuple[dict[str, ScriptedExpert], str]:
    """Ask, twice where answers are kept, until all that follows is over."""
    settings = world.settings(first.settings.data_dir)
    models = {name: world.expert(place) for place, name in enumerate(NAMES)}
    # Who failed in one world is not out of service in the next.
    lasting = first.lasting._replace(traffic=Traffic.of(settings, 1))
    old = replace(first, lasting=lasting)
    gateway = rebuild_gateway(old, settings, build_experts(settings, {}, kept=models))
    failure = ""
    for _ in range(2 if world.cached else 1):
        try:
            answer = await gateway.service.answer(world.ask)
            try:
                await collect(answer.events())
            finally:
                await answer.aclose()
        except NoEligibleExpertError as error:
            failure = str(error)
        except (GatewayError, ExpertError, RoutingError):
            failure = "failed"
    for _ in range(3):
        tasks = [*gateway.lasting.shadows.tasks, *gateway.lasting.scoring.judged.tasks]
        if tasks:
            await asyncio.wait(tasks)
    return models, failure


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(world=worlds())
def test_nobody_is_asked_who_may_not_be_sent_it(
    portal: BlockingPortal, first: Gateway, world: World
) -> None:
    models, failure = portal.call(_served, first, world)
    rank = PRIVACY.index(world.privacy)
    asked = {name for name, model in models.items() if model.requests}
    barred = {
        name for name, held in zip(NAMES, world.classes, strict=True) if PRIVACY.index(held) < rank
    }
    assert not asked & barred
    if world.model.startswith("auto"):
        # Who is left is asked, and a refusal says why nobody is.
        assert bool(asked) == (len(barred) < len(NAMES))
        if not asked:
            assert f"and this is {world.privacy}" in failure


def test_a_refusal_and_a_route_say_why(serve: Serve) -> None:
    held: tuple[tuple[str, Privacy], ...] = (("open", "public"), ("house", "internal"))
    served = serve(
        {
            name: ScriptedExpert(ExpertCard(name, privacy=privacy), says("Hi", USED))
            for name, privacy in held
        }
    )
    body = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}
    wished = {**body, "pointsman": {"privacy": "internal"}}
    routed = served.client.post("/v1/route", json=wished).json()
    assert routed["expert"] == "house"
    why = "may be sent public data at most, and this is internal"
    assert routed["excluded"] == {"open": why}
    assert served.ask("open", pointsman={"privacy": "internal"}).status_code == 400
    header = {"x-pointsman-privacy": "private"}
    refused = served.client.post("/v1/chat/completions", json=body, headers=header)
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert error["code"] == "no_eligible_expert"
    assert "house: may be sent internal data at most, and this is private" in error["message"]
    wrong = served.ask(pointsman={"privacy": "secret"}).json()["error"]
    assert wrong["param"] == "pointsman.privacy"


def test_the_one_door_to_experts_keeps_shut_by_itself(portal: BlockingPortal) -> None:
    closed = ScriptedExpert(ExpertCard("open"), says("Hi", USED))

    async def called() -> None:
        traffic = Traffic.of(Settings(), 1)
        terms = Terms(anyio.current_time() + 1, privacy="private")
        calls = Attempts(traffic, terms, booking=NoBooks())
        await collect(calls.run(closed, ChatRequest((Message("user", SECRET),))))

    with pytest.raises(ExpertUnsupportedError, match="may not be sent private data"):
        portal.call(called)
    assert not closed.requests


class NoBooks:
    """Nothing is to be booked."""

    async def begin(self, card: ExpertCard, parent: Attempt | None = None) -> Attempt:
        raise AssertionError(card.expert_id)

    def end(self, attempt: Attempt, status: str, error: ExpertCallError | None = None) -> None:
        raise AssertionError(status)
