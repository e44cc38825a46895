from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import anyio
import pytest

from experts.sse import sse_data


def payloads(lines: Iterable[str]) -> list[str]:
    async def source() -> AsyncIterator[str]:
        for line in lines:
            yield line

    async def run() -> list[str]:
        return [payload async for payload in sse_data(source())]

    return anyio.run(run)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["data: a", "", "data: b", "", "data: [DONE]", ""], ["a", "b"]),
        (["data:a", ""], ["a"]),
        ([": ping", "", "event: x", "id: 1", "data: a", ""], ["a"]),
        (["data: a", "data: b", ""], ["a\nb"]),
        (["data: a", "", "data: last"], ["a", "last"]),
        (["data: a", "", "data: [DONE]"], ["a"]),
        (["data: [DONE]", "", "data: never", ""], []),
        (["", "", "garbage", ""], []),
    ],
    ids=[
        "usual",
        "no space",
        "comments and other fields",
        "two lines",
        "no blank at the end",
        "done at the end",
        "nothing after done",
        "nothing at all",
    ],
)
def test_payloads_are_read_whatever_surrounds_them(lines: list[str], expected: list[str]) -> None:
    assert payloads(lines) == expected
