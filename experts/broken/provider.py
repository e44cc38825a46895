"""A provider on the loopback address that is broken in the way that its base URL names.

    with broken_provider() as broken:
        url = broken.base("cut_in_middle", times="2", who="mine")

The first two requests to that URL are answered by the fault of that name, all
others rightly. Every URL is a provider of its own, so one server is as many as a test wants.
"""

from __future__ import annotations

import ssl
from collections import defaultdict
from collections.abc import Iterable
from contextlib import AbstractContextManager

from experts.broken import answers, connections, refusals, streams  # noqa: F401 - fill FAULTS
from experts.broken.scene import FAULTS, Scene, healthy
from experts.fakes.anthropic import Message
from experts.fakes.provider import Reply
from experts.fakes.server import Act, FakeServer, ReceivedRequest, event, serving

TEXT = "Grüße aus Köln: 你好 🙂 und fertig"
WORDS = len(TEXT.split())
_REPLY = Reply(
    TEXT, usage={"prompt_tokens": 10, "completion_tokens": WORDS, "total_tokens": 10 + WORDS}
)
_MESSAGE = Message(
    ({"type": "text", "text": TEXT},), usage={"input_tokens": 10, "output_tokens": WORDS}
)


class BrokenProvider(FakeServer):
    """Answers with `TEXT`, or fails as the URL says.

    Args:
        greets: What becomes of every connection before a request is read from it.

    Attributes:
        asked: Every request so far, by base URL.
    """

    def __init__(self, greets: Iterable[Act] = ()) -> None:
        super().__init__()
        self._greets = tuple(greets)
        self.asked: dict[str, list[ReceivedRequest]] = defaultdict(list)

    def base(self, fault: str, times: str = "always", who: str = "") -> str:
        """The base URL of a provider that fails so.

        Args:
            fault: A name in `FAULTS`, or `healthy`.
            times: `always`, the number of requests that fail before all goes well, or `every2`,
                `every3` and so on: the first of each two or three.
            who: Tells apart providers that fail alike.
        """
        if fault not in FAULTS:
            raise ValueError(f"no fault is called {fault!r}; there are {', '.join(FAULTS)}")
        return f"http://127.0.0.1:{self.port}/{fault}/{times}/{who or 'any'}/v1"

    def greets(self) -> Iterable[Act]:
        return self._greets

    def acts(self, asked: ReceivedRequest) -> Iterable[Act]:
        _, fault, times, who, *_ = asked.path.split("/")
        known = self.asked[self.base(fault, times, who)]
        known.append(asked)
        return (FAULTS[fault] if _fails(times, len(known)) else healthy)(_scene(asked))


def broken_provider(
    greets: Iterable[Act] = (), tls: ssl.SSLContext | None = None
) -> AbstractContextManager[BrokenProvider]:
    """A provider that serves from a thread while the context is open."""
    return serving(BrokenProvider(greets), tls)


def _fails(times: str, number: int) -> bool:
    if times.startswith("every"):
        return (number - 1) % int(times.removeprefix("every")) == 0
    return times == "always" or number <= int(times)


def _scene(asked: ReceivedRequest) -> Scene:
    if asked.path.endswith("/messages"):
        model = str(asked.body["model"])
        events = tuple(event(said, said["type"]) for said in _MESSAGE.events(model))
        # message_start, ping and content_block_start come before any text.
        return Scene(asked, "anthropic", _MESSAGE.body(model), events, 5, len(events) - 1)
    # A stream that nobody asked for has its usage too.
    told = {"stream_options": {"include_usage": True}, **asked.body}
    events = tuple(_REPLY.events(asked.body if asked.body.get("stream") else told))
    return Scene(asked, "openai", _REPLY.body(asked.body), events, 2, WORDS + 1)
