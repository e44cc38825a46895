"""Every regular expression of ours that reads what strangers write does so in linear time."""

from __future__ import annotations

import time

import anyio
import pytest

from experts.calculator.calculator import CalculatorExpert
from experts.cards import ExpertCard
from experts.compose.choices import choices_in, picked
from experts.compose.deferral.self_check import verdict_of
from experts.compose.deferral.verified import ExactArithmetic
from experts.compose.grouping import exact_key, numeric_key
from experts.messages import ChatRequest, Message
from experts.wire.refusals import refusal
from gateway.caching.similar import question_of
from gateway.ledger.rows import kept_text
from gateway.telemetry.redaction import Redactor
from routers.encoders.lexical import HashingEncoder

LENGTH = 100_000
PIECES = (
    *("a", "1", "*", "@", ".", "-", "+", "_", "…", "“", "«", "`", '"', "'", "(", " ", "\n", "é"),
    *("a@", "a@b", "a@b.", "1(", "+1 ", "sk-", "sk-***", "eyJ", "eyJaaaaaaa.", "://", "http://a"),
    *("bearer ", "ending ", "x-api-key: ", "authorization: bearer ", "token=", "a:b@", "'s "),
    *("how many ", "1 a in ", "sum of a and ", "one hundred and ", "1,000,", "max context "),
)
# Linear time is a few seconds for all pieces together; what is quadratic takes minutes for one.
ENOUGH_S = 60


def test_texts_made_to_be_slow_are_not() -> None:
    redactor = Redactor(["planted-secret-1234WXYZ"])
    calculator = CalculatorExpert(ExpertCard("calculator"))
    encoder = HashingEncoder()
    began = time.process_time()
    for piece in PIECES:
        text = piece * (LENGTH // len(piece))
        for hostile in (text, f"{text}!", f"ending{text}"):
            redactor.text(hostile)
            kept_text(hostile, "redacted")
        question_of(text[:8_000], b"", encoder)
        question_of(text, b"", encoder)
        calculator.work_out(text)
        calculator.work_out(text[:398])
        calculator.work_out(f"how many {text[:380]} in?")
        refusal("a", 400, {}, b'{"error": {"message": "%b"}}' % text.encode())
    assert time.process_time() - began < ENOUGH_S


def test_texts_that_compositions_read_are_not_either() -> None:
    exact = ExactArithmetic(CalculatorExpert(ExpertCard("calculator")))
    asked = ChatRequest((Message("user", "Why?"),))
    began = time.process_time()
    for piece in (" ", "1", "1,2,", "1 - ", "(", "1 + 1 = ", "\\boxed{", "answer: ", "the "):
        for head in ("", "A) x", "answer"):
            hostile = f"{head}{piece * (LENGTH // len(piece))}x"
            choices_in(hostile)
            picked(hostile, ("x", "y"))
            exact_key(hostile)
            numeric_key(hostile)
            verdict_of(hostile)
            anyio.run(exact.verify, asked, hostile)
    assert time.process_time() - began < ENOUGH_S


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("mail me@example.org, please", "mail [email], please"),
        ("first.last+tag@mail.example.org", "[email]"),
        ("x me@a.b you@c.d", "x [email] [email]"),
        ("call +49 30 1234567", "call [number]"),
        ("sk-0123456789abcdef", "[secret]"),
        ("no@one", "no@one"),
        ("", ""),
    ],
)
def test_what_is_private_still_goes(text: str, kept: str) -> None:
    assert kept_text(text, "redacted") == kept
