"""Any client to any expert and back: nothing lost, and a stream says the same as a whole answer.

A further format for clients is one line in `CONVERSING`, one for experts a line in `PROVIDERS`.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings

from experts.messages import Collector, Event, Usage
from experts.params import with_known_params
from experts.wire.reading import StreamReader, whole_answer
from gateway.access.keys import Key
from gateway.api.front import Envelope
from gateway.ask import Ask
from tests.contracts.wire_backs import ChatProvider, MessagesProvider, Provider
from tests.contracts.wire_cases import Said, Turn, Wanted, answers, requests
from tests.contracts.wire_completions import CompletionsClient
from tests.contracts.wire_fronts import ChatClient, Client, MessagesClient
from tests.contracts.wire_responses import ResponsesClient

CONVERSING: list[Client] = [ChatClient(), MessagesClient(), ResponsesClient()]
CLIENTS: list[Client] = [*CONVERSING, CompletionsClient()]
PROVIDERS: list[Provider] = [ChatProvider(), MessagesProvider()]
KEY = Key("anyone")
ENVELOPE = Envelope("dec_1", "someone", created=1)
HELLO = Wanted((Turn("user", ("Hello",)),))

every_conversation = pytest.mark.parametrize(
    "client", CONVERSING, ids=lambda c: f"from-{c.front.wire}"
)
every_pair = pytest.mark.parametrize("client", CLIENTS, ids=lambda c: f"from-{c.front.wire}")
every_provider = pytest.mark.parametrize("provider", PROVIDERS, ids=lambda p: f"to-{p.card.wire}")


def asked(client: Client, wanted: Wanted, *, stream: bool) -> Ask:
    return client.front.parse(json.dumps(client.body(wanted, stream=stream)).encode(), {}, KEY)


def expected(said: Said, client: Client, provider: Provider) -> Said:
    """What must arrive."""
    heard, usage = said.heard(), said.usage
    silent = {name: getattr(Said(), name) for name in vars(heard) if name not in client.hears}
    return replace(heard, usage=usage, **{**silent, "sizes": ()})


@every_provider
@every_pair
@settings(max_examples=40, deadline=None)
@given(said=answers())
def test_an_answer_arrives_whole_and_as_a_stream(
    client: Client, provider: Provider, said: Said
) -> None:
    wanted = expected(said, client, provider)

    ask = asked(client, HELLO, stream=False)
    read = provider.dialect.reader(ask.request)
    events = whole_answer("x", read, provider.whole(said))
    collector = Collector()
    for event in events:
        collector.add(event)
    usage = collector.usage or Usage()
    whole = client.front.whole(ask, ENVELOPE, collector.completion(), usage)
    assert client.whole(whole) == wanted

    ask = asked(client, HELLO, stream=True)
    assert client.streamed(relayed(client, ask, streamed_events(provider, ask, said))) == wanted


def streamed_events(provider: Provider, ask: Ask, said: Said) -> list[Event]:
    """What the gateway makes of the provider's stream, which comes in odd packets."""
    reader = StreamReader("x", provider.dialect.reader(ask.request))
    content = provider.streamed(said)
    found: list[Event] = []
    for start in range(0, len(content), 37):
        found += reader.feed(content[start : start + 37])
    return [*found, *reader.end()]


def relayed(client: Client, ask: Ask, events: list[Event]) -> bytes:
    writer = client.front.writer(ask, ENVELOPE)
    usage = next((event for event in events if isinstance(event, Usage)), Usage())
    pieces = [piece for event in events for piece in writer.write(event)]
    return b"".join([*pieces, *writer.end(usage, 0.5)])


@every_provider
@every_conversation
@settings(max_examples=40, deadline=None)
@given(wanted=requests())
def test_a_request_arrives(client: Client, provider: Provider, wanted: Wanted) -> None:
    request = asked(client, wanted, stream=False).request
    # And as it goes out when a guardrail or a composition changed a part of it, or all.
    other = replace(request, source=None)
    bare = tuple(replace(message, source=None) for message in request.messages)
    for sent in (request, other, replace(other, messages=bare)):
        known = with_known_params(sent, provider.card)
        body = json.loads(json.dumps(provider.dialect.body(known, "m")))
        assert normal(provider.understood(body)) == normal(wanted)


def normal(wanted: Wanted) -> Wanted:
    """Where formats differ without a difference: `auto` is what is done anyway, no tools are not
    called one at a time.
    """
    parallel = wanted.parallel or wanted.choice == "none" or not wanted.tools
    return replace(wanted, choice=wanted.choice or "auto", parallel=parallel)


@every_provider
@every_pair
def test_usage_is_told_in_a_stream_that_has_none(client: Client, provider: Provider) -> None:
    """Who asks for usage gets it from us, whatever the provider said."""
    ask = asked(client, HELLO, stream=True)
    events = streamed_events(provider, ask, Said("Hi"))
    silent = [event for event in events if not isinstance(event, Usage)]
    writer = client.front.writer(ask, ENVELOPE)
    pieces = [piece for event in silent for piece in writer.write(event)]
    counted = Usage(7, 0, 0, 5, 0, estimated=True)
    heard = client.streamed(b"".join([*pieces, *writer.end(counted, None)]))
    assert (heard.usage.input, heard.usage.output) == (7, 5)
