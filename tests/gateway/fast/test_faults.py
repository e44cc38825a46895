"""What a client gets when something of ours breaks on the fast path."""

from __future__ import annotations

from typing import Any

import pytest

from experts.fakes.provider import FakeProvider, Reply
from gateway.fast import relay
from tests.conftest import Served


@pytest.mark.parametrize("usage", [None, {"prompt_tokens": 3, "completion_tokens": 2}])
def test_a_stream_whose_answer_cannot_be_read_for_the_books_ends_in_an_error(
    one: Served, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, usage: Any
) -> None:
    def fails(*_: Any) -> str:
        raise RuntimeError("broken")

    provider.otherwise = Reply(usage=usage)
    monkeypatch.setattr(relay, "text_of", fails)
    monkeypatch.setattr(relay, "seen_in", fails)
    answer = one.ask("small", stream=True)
    assert '"code":"internal_error"' in answer.text
    assert "[DONE]" not in answer.text
    assert one.verified().faults == ()
