"""A fault of ours tells its client nothing, and its traceback holds no secret."""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator

import pytest

from experts.base import Call
from experts.cards import ExpertCard, Prices
from experts.messages import ChatRequest, Delta, Event
from gateway.ledger.database import opened
from gateway.ledger.queries import LedgerReader
from gateway.settings.logging import LoggingSettings
from gateway.telemetry.logs import Logs
from tests.conftest import Serve

SECRET = "planted.caller.0123456789"
PROVIDERS = "sk-planted-0123456789abcdWXYZ"
NOTHING: dict[str, str] = {}


class Crashing:
    """An expert with a bug: whatever it holds ends up in the exception."""

    def __init__(self, after: int) -> None:
        self.card = ExpertCard("a", prices=Prices(1, 1))
        self._after = after

    async def answer(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        for _ in range(self._after):
            yield Delta("word ")
        try:
            NOTHING[f"authorization: Bearer {PROVIDERS}"]
        except KeyError as error:
            error.add_note(f"while it asked with {SECRET}")
            raise RuntimeError({"api_key": PROVIDERS, "url": f"http://me:{SECRET}@x/"}) from error

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_crash_is_told_without_its_secrets(
    serve: Serve, form: str, after: int, stream: bool
) -> None:
    served = serve({"a": Crashing(after)}, keys=[{"name": "k", "key": SECRET, "role": "admin"}])
    written = io.StringIO()
    settings = LoggingSettings.model_validate({"level": "debug", "format": form})
    logs = Logs(settings, served.gateway.telemetry.redactor, written)
    logs.start()
    try:
        answer = served.client.post(
            "/v1/chat/completions",
            json={"model": "a", "messages": [{"role": "user", "content": "x"}], "stream": stream},
            headers={"authorization": f"Bearer {SECRET}"},
        )
    finally:
        logs.stop()
    assert answer.status_code == (200 if stream and after else 500)
    assert "internal error" in answer.text
    for hidden in (SECRET, PROVIDERS, "WXYZ", "RuntimeError", "Traceback"):
        assert hidden not in answer.text
    told = written.getvalue()
    assert "RuntimeError" in told
    assert "Traceback" in told
    assert "[redacted]" in told
    assert SECRET not in told
    assert PROVIDERS not in told
    served.verified()
    with opened(served.gateway.settings.ledger_url) as engine:
        (row,) = LedgerReader(engine).recent()
    assert row["status"] == 500
