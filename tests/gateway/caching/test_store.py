"""Bounds, age, and answers that survive being kept."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from experts.messages import Collector, Delta, Event, Finish, Usage
from gateway.caching.entries import CacheEntry, decode, encode, is_whole
from gateway.caching.similar import question_of
from gateway.caching.store import AnswerStore
from routers.encoders.lexical import HashingEncoder

REASONS = {"stop", "length"}


def entry(key: bytes, text: str = "", stored_at: float = 0.0) -> CacheEntry:
    events = encode([Delta(text), Finish("stop")])
    return CacheEntry(key, events, Usage(), "dec-1", "small", 1, stored_at)


def test_the_least_recently_used_goes_first() -> None:
    store = AnswerStore(60, 2, 1_000_000, lambda: 0.0)
    store.put(entry(b"a"))
    store.put(entry(b"b"))
    assert store.get(b"a")
    store.put(entry(b"c"))
    assert [store.get(key) is not None for key in (b"a", b"b", b"c")] == [True, False, True]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5_000)), max_size=60))
def test_bytes_and_entries_stay_within_bounds_and_add_up(puts: list[tuple[int, int]]) -> None:
    store = AnswerStore(60, 5, 12_000, lambda: 0.0)
    for key, length in puts:
        store.put(entry(bytes([key]), "x" * length))
        kept = [found for key in range(10) if (found := store.get(bytes([key])))]
        assert store.bytes == sum(each.size for each in kept) <= 12_000
        assert len(store) == len(kept) <= 5


def test_an_answer_larger_than_the_store_is_not_kept_and_nothing_goes_for_it() -> None:
    store = AnswerStore(60, 5, 4_000, lambda: 0.0)
    store.put(entry(b"a"))
    store.put(entry(b"b", "x" * 5_000))
    assert store.get(b"a")
    assert store.get(b"b") is None


def test_nothing_outlives_its_time() -> None:
    now = [0.0]
    store = AnswerStore(10, 5, 10_000, lambda: now[0])
    store.put(entry(b"a"))
    now[0] = 9.9
    assert store.get(b"a")
    now[0] = 10.0
    assert store.get(b"a") is None
    assert (store.bytes, len(store)) == (0, 0)


def test_a_question_is_forgotten_with_its_answer() -> None:
    store = AnswerStore(60, 1, 100_000, lambda: 0.0)
    question = question_of("explain tides", b"", HashingEncoder(64))
    assert question is not None
    store.put(replace(entry(b"a"), question=question))
    assert store.nearest(question, 0.9) is not None
    store.put(entry(b"b"))
    assert store.nearest(question, 0.9) is None


def test_an_answer_found_by_its_question_does_not_outlive_its_time_either() -> None:
    now = [0.0]
    store = AnswerStore(10, 5, 100_000, lambda: now[0])
    question = question_of("explain tides", b"", HashingEncoder(64))
    assert question is not None
    store.put(replace(entry(b"a"), question=question))
    now[0] = 10.0
    assert store.nearest(question, 0.9) is None


CHOICES = st.integers(0, 1)
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Delta, st.text(max_size=5), CHOICES),
    st.builds(
        lambda choice, text: Delta(
            choice=choice, tool_calls=({"index": 0, "id": "c", "function": {"arguments": text}},)
        ),
        CHOICES,
        st.text(max_size=5),
    ),
    st.builds(lambda c, t: Delta(choice=c, reasoning=t, fields={"refusal": t}), CHOICES, st.text()),
    st.builds(lambda c: Delta("x", c, logprobs={"content": [{"token": "x"}]}), CHOICES),
    st.builds(Finish, st.sampled_from(["stop", "tool_calls"]), CHOICES),
    st.builds(Usage, st.integers(0, 9), output=st.integers(0, 9)),
)


@given(st.lists(EVENTS, max_size=30))
def test_a_kept_answer_is_the_answer(events: list[Event]) -> None:
    before, after = Collector(), Collector()
    for event in events:
        before.add(event)
    for event in decode(encode(events)):
        after.add(event)
    assert after.completion() == before.completion()


def test_only_whole_answers_are_kept() -> None:
    assert is_whole([Delta("a"), Finish("stop")], REASONS)
    assert not is_whole([Delta("a")], REASONS)
    assert not is_whole([], REASONS)
    assert not is_whole([Delta("a"), Finish("content_filter")], REASONS)
    assert not is_whole([Delta("a"), Delta("b", 1), Finish("stop")], REASONS)
    assert is_whole([Delta("a"), Delta("b", 1), Finish("stop"), Finish("length", 1)], REASONS)
