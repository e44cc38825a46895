from __future__ import annotations

import tracemalloc

import orjson
import pytest

from experts.wire.kept_json import kept_json


@pytest.mark.parametrize("length", [1, 1_400, 140_000])
def test_it_takes_no_more_memory_than_it_is_long(length: int) -> None:
    value = {"text": "x" * length}
    tracemalloc.start()
    try:
        kept = [kept_json(value) for _ in range(10)]
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept == [orjson.dumps(value)] * 10
    assert held < 10 * (1.1 * len(kept[0]) + 200)
