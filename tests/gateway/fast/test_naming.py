"""Our name in a provider's answer: in the one place, and nothing else touched."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fast.naming import ModelName
from gateway.fast.plain_answer import read_answer
from tests.gateway.fast.test_quick import answer


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        (b'{"id":"a","model":"theirs","x":[1]}', b'{"id":"a","model":"ours","x":[1]}'),
        (b'{"model": "theirs", "x":  1}', b'{"model":"ours", "x":  1}'),
        (b'{"x":{"model":"theirs"},"model":"theirs"}', b'{"x":{"model":"theirs"},"model":"ours"}'),
        (b'{"x":[{"model":"theirs"}],"model":"theirs"}', None),
        (b'{"x\\"model":"theirs","model":"theirs"}', None),
        (b'{"model":"the\\u0069rs"}', None),
        (b'{"model" :"theirs"}', None),
        (b'{"x":1}', None),
        (b'{"model":null}', None),
        (b'{"model":"ours", "x" : 1}', b'{"model":"ours", "x" : 1}'),
    ],
)
def test_it_is_put_where_theirs_was(raw: bytes, named: bytes | None) -> None:
    data = orjson.loads(raw)
    put = ModelName("ours").put(raw, data)
    assert orjson.loads(put) == {**data, "model": "ours"}
    assert named is None or put == named


_leaves = st.one_of(
    st.sampled_from(["theirs", '"model":"theirs"', "{", "[", "\\"]), st.integers(0, 9)
)
_json = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["model", 'a"model', "b"]), inner, max_size=3),
    ),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(st.sampled_from(["a", 'x"model', "model"]), _json), min_size=1))
def test_every_answer_says_the_same_but_for_the_name(answers: list[dict[str, Any]]) -> None:
    name = ModelName("ours")
    for number, data in enumerate(answers):
        # Providers write with and without blanks, and one name holds what it learned of them.
        raw = json.dumps(data).encode() if number % 2 else orjson.dumps(data)
        assert orjson.loads(name.put(raw, data)) == {**data, "model": "ours"}


def test_what_is_nested_too_deep_to_be_written_anew_is_no_plain_answer() -> None:
    deep = b'{"a":' * 300 + b"1" + b"}" * 300
    whole = orjson.dumps({**(answer().whole or {}), "model": "theirs"})
    raw = whole[:-1] + b',"more":' + deep + b"}"
    found = read_answer(raw)
    # It goes through as it is, where only its name has to be put in.
    assert found is not None
    assert ModelName("ours").put(raw, found.data) == raw.replace(b'"theirs"', b'"ours"')
    with pytest.raises(orjson.JSONEncodeError):
        ModelName("ours").put(b" ", found.data)
