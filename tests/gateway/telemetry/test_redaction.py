"""Secrets are taken out wherever they stand, and little else is."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings.root import Settings
from gateway.settings.shape import redacted
from gateway.telemetry.redaction import REDACTED, Redactor, secrets_of

KNOWN = "correct-horse-battery-staple"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"it was {KNOWN}!", KNOWN),
        ("Incorrect API key provided: sk-proj-abcDEF123456.", "abcDEF123456"),
        ("Incorrect API key: sk-ab**********wxyz", "wxyz"),
        ("key ****WXYZ is revoked", "WXYZ"),
        (f"the key ending in {KNOWN[-4:]} is revoked", KNOWN[-4:]),
        ("pm-0123456789abcdef", "0123456789abcdef"),
        ("Authorization: Bearer abcdef.ghijkl", "abcdef.ghijkl"),
        ("{'authorization': 'Bearer abcdefghijkl'}", "abcdefghijkl"),
        ('{"x-api-key": "abcdefghijkl"}', "abcdefghijkl"),
        ('{"api-key": "abcdefghijkl"}', "abcdefghijkl"),
        ("[(b'api-key', b'abcdefgh')]", "abcdefgh"),
        ("[(b'x-api-key', b'abcd'), (b'authorization', b'Basic YWxhZGRpbjo=')]", "YWxhZGRpbjo="),
        ("[(b'x-api-key', b'abcdefgh')]", "abcdefgh"),
        ("api_key=abcdefgh&x=1", "abcdefgh"),
        ("postgresql://me:pa%24s@db/ledger", "pa%24s"),
        ("redis://:hunter22@cache:6379/0", "hunter22"),
        ("AIzaSyA1234567890abcdefg", "SyA1234567890"),
        ("eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.SflKxwRJSMeKKF2QT4", "SflKxwRJSMeKKF2QT4"),
    ],
)
def test_secrets_go(text: str, secret: str) -> None:
    cleaned = Redactor([KNOWN]).text(text)
    assert secret not in cleaned
    assert REDACTED in cleaned


@pytest.mark.parametrize(
    "text",
    [
        "max_tokens: 5000 is more than this model's 4096",
        "https://api.example.com/v1/models?x=1 answered 404",
        "small: the first token did not come within 60 s",
        "the request ends with a system message",
        "no expert is called 'task-force-one'",
        "req-0197a4b6c1e20123456789abcdef0123",
        "a 2**16 window, and 3*4",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert Redactor([KNOWN]).text(text) == text


@given(st.text(min_size=6, max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_a_known_secret_never_survives(secret: str, before: str, after: str) -> None:
    assert secret not in Redactor([secret]).text(before + secret + after).replace(REDACTED, "\0")


@pytest.mark.parametrize("pattern", Redactor([KNOWN])._patterns, ids=lambda p: p.pattern[:20])
@given(data=st.data())
def test_nothing_that_a_pattern_finds_is_passed_over(
    pattern: re.Pattern[str], data: st.DataObject
) -> None:
    assert Redactor([KNOWN]).suspects(data.draw(st.from_regex(pattern)))


def test_a_secret_inside_another_goes_with_it() -> None:
    assert Redactor(["abcdef", "abcdefgh"]).text("abcdefgh") == REDACTED


def test_hostile_text_is_searched_in_linear_time() -> None:
    redactor = Redactor([KNOWN])
    began = time.process_time()
    for piece in ("*", "a", "://", "bearer ", "ending ", "x-api-key: ", "sk-", "ey."):
        redactor.text(piece * (100_000 // len(piece)))
    assert time.process_time() - began < 10


def test_the_configurations_secrets_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED_PROVIDER", "provider-secret")
    monkeypatch.setenv("PLANTED_LEDGER", "postgresql://me:ledger-secret@db/x")
    settings = Settings.model_validate(
        {
            "experts": [
                {"id": "a", "base_url": "http://127.0.0.1:9/v1", "api_key": "env:PLANTED_PROVIDER"}
            ],
            "keys": [{"name": "k", "key": "client-secret"}],
            "ledger": {"url": "env:PLANTED_LEDGER"},
        }
    )
    assert secrets_of(settings) == {"provider-secret", "client-secret", "ledger-secret"}


def test_a_missing_variable_is_somebody_elses_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    settings = Settings.model_validate({"keys": [{"name": "k", "key": "env:NOT_SET"}]})
    assert secrets_of(settings) == set()


def test_a_secret_is_known_as_programs_show_it() -> None:
    held = "it's\nplanted\\here"
    for shown in (repr(held), repr(held.encode()), f"Illegal header value {held.encode()!r}"):
        assert "planted" not in Redactor([held]).text(shown)


def test_a_password_may_stand_behind_a_url_too() -> None:
    url = "postgresql://me:first-secret@db/x?password=second-secret&sslpassword=third%20secret&a=b"
    settings = Settings.model_validate({"ledger": {"url": url}})
    assert secrets_of(settings) == {"first-secret", "second-secret", "third secret"}


def test_the_password_of_a_collector_is_known_and_not_shown() -> None:
    given = {"telemetry": {"otlp_endpoint": "https://me:collector-secret@traces:4318/x"}}
    settings = Settings.model_validate(given)
    assert secrets_of(settings) == {"collector-secret"}
    assert redacted(settings)["telemetry"]["otlp_endpoint"] == "https://traces:4318/x"
