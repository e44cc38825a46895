from __future__ import annotations

import orjson
import pytest

from experts.wire.depth import load_json


@pytest.mark.parametrize("depth", [1, 150, 200, 230])
def test_what_can_be_written_is_read(depth: int) -> None:
    text = "[" * depth + "]" * depth
    assert orjson.dumps(load_json(text)).decode() == text
    assert load_json(text.encode()) == load_json(text)


@pytest.mark.parametrize("depth", [250, 254, 255, 900, 1_024, 100_000])
def test_what_is_nested_deeper_is_no_json(depth: int) -> None:
    for text in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
        with pytest.raises(orjson.JSONDecodeError):
            load_json(text)
        with pytest.raises(orjson.JSONDecodeError):
            load_json(text.encode())


def test_many_brackets_side_by_side_are_not_deep() -> None:
    assert len(load_json("[" + "[]," * 5_000 + "[]]")) == 5_001
