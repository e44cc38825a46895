"""Finding is the same however a text is cut, and holds back no more than it must."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.guards.beginnings import PatternError, beginnings, widths
from gateway.guards.finder import (
    Detector,
    Finder,
    Found,
    GuardOverloadedError,
    Piece,
    Scan,
    compiled,
)
from gateway.guards.pii import pii_finder
from gateway.settings.guards import ENTITIES

PII = pii_finder(ENTITIES, ("US",))
OTHERS = Finder(
    [
        Detector("word", r"\bfo{1,3}\b"),
        Detector("case", r"(?i)x[yz]{0,3}x"),
        Detector("odd", r"é{1,4}?b", lambda text: 0 if len(text) == 3 else len(text)),
        Detector("start", r"^start|(?m:^line)"),
        Detector("or", r"(?:ab|a[^c]d.){1,3}q"),
    ],
    streams=True,
)


def joined(pieces: list[Piece]) -> list[Piece]:
    """With neighbouring texts as one."""
    out: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, str) and out and isinstance(out[-1], str):
            out[-1] += piece
        else:
            out.append(piece)
    return out


def streamed(finder: Finder, chunks: list[str]) -> list[Piece]:
    scan = Scan(finder)
    pieces = [piece for chunk in chunks for piece in scan.feed(chunk)]
    return joined([*pieces, *scan.feed("", final=True)])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text("foxyz éb.startlinq\nacd", max_size=7), max_size=12))
def test_patterns_find_the_same_however_a_text_is_cut(chunks: list[str]) -> None:
    assert streamed(OTHERS, chunks) == joined(list(OTHERS.pieces("".join(chunks))))


PERSONAL = st.sampled_from(
    [
        "ann.b+c@mail.example.co.uk",
        "+44 20 7946 0958",
        "(415) 555-2671",
        "4111 1111 1111 1111",
        "DE89 3704 0044 0532 0130 00",
        "536-90-4399",
        "10.0.0.1",
        "fe80::1ff:fe23:4567:890a",
        "sk-abcdefghijklmnop1234",
    ]
)
TEXTS = st.lists(PERSONAL | st.text("a1 .-@+(", max_size=4), max_size=8).map("".join)


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 100), max_size=8))
def test_personal_data_are_found_the_same_however_a_text_is_cut(text: str, cuts: list[int]) -> None:
    ends = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    chunks = [text[start:end] for start, end in pairwise(ends)]
    assert streamed(PII, chunks) == joined(list(PII.pieces(text)))


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([r"a{2,4}[bc]d?", r"(?:ab|cd){1,3}x", r"[^a]b.", r"(?i)ab+?c{0,2}"]), st.data()
)
def test_every_beginning_of_a_match_is_a_beginning(pattern: str, data: st.DataObject) -> None:
    match = data.draw(st.from_regex(pattern.replace("(?i)", ""), fullmatch=True, alphabet="abcdx"))
    begins = compiled(f"(?:{beginnings(pattern)})")
    for end in range(len(match) + 1):
        assert begins.fullmatch(match[:end])


@pytest.mark.parametrize(
    ("said", "held"),
    [("hello world. ", ""), ("hello wor", "wor"), ("call 415-55", "415-55"), ("it is (", "(")],
)
def test_only_what_may_become_a_match_is_held(said: str, held: str) -> None:
    scan = Scan(PII)
    assert "".join(str(piece) for piece in scan.feed(said)) + held == said
    assert scan.held == held


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Mail ann@x.org!", ["ann@x.org"]),
        ("Call (415) 555-2671 or +44 20 7946 0958.", ["(415) 555-2671", "+44 20 7946 0958"]),
        ("IBAN DE89370400440532013000 ABCD", ["DE89370400440532013000"]),
        ("4111-1111-1111-1111, not 4111-1111-1111-1112", ["4111-1111-1111-1111"]),
        ("at 2024-11-05 10:30:45, v1.2.3, std::map, 3.14159265358979, 12345", []),
        ("order 1234567890123456789", []),
    ],
)
def test_form_proposes_and_check_digits_decide(text: str, found: list[str]) -> None:
    assert [piece.text for piece in PII.pieces(text) if isinstance(piece, Found)] == found


@pytest.mark.parametrize(
    ("pattern", "streams", "why"),
    [
        ("a*", False, "matches the empty text"),
        ("(a", False, "missing"),
        ("(?<=a)b", False, "invalid perl operator"),
        (r"(a)\1", False, "escape"),
        ("[[:alpha:]]", False, "not understood"),
        ("sk-[a-z]+", True, "must end within 2000"),
        ("a{1,999}b{1,999}c{1,999}", True, "must end within 2000"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_named(pattern: str, streams: bool, why: str) -> None:
    with pytest.raises(PatternError, match=f"(?i)secrets: .*{why}"):
        Finder([Detector("secrets", pattern)], streams=streams)


def test_widths() -> None:
    assert widths("a{2,4}|bc") == (2, 4)
    assert widths("ab+") == (2, None)


def test_a_text_made_to_be_slow_is_not() -> None:
    evil = Finder([Detector("evil", "(a|a)*b(a+)+c")], streams=False)
    began = time.monotonic()
    assert list(evil.pieces("a" * 200_000)) == ["a" * 200_000]
    assert time.monotonic() - began < 5


def test_a_text_full_of_near_matches_is_given_up() -> None:
    with pytest.raises(GuardOverloadedError):
        list(PII.pieces("4111-1111-1111-1112, " * 30_000))
