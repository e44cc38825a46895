"""A body is what it is, whatever is said of how it is packed."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest

from experts.http.unpacking import UnpackingError, unpacker_of

BODIES = [b'{"choices": []}', b'data: {"a": 1}\n\n', b"event: x\n\n", b": hi\n\n", b" [1]", b"<p>"]


@pytest.mark.parametrize("said", ["gzip", "GZIP", "x-gzip", "deflate", "gzip, identity", "a,gzip"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_body_is_told_by_how_it_begins(said: str, size: int) -> None:
    for body in BODIES:
        for sent in (body, gzip.compress(body), zlib.compress(body)):
            unpacker = unpacker_of(said)
            assert unpacker is not None
            pieces = [sent[at : at + size] for at in range(0, len(sent), size)]
            assert b"".join(map(unpacker.feed, pieces)) == body


@pytest.mark.parametrize("said", [None, "", "identity", "br", "utf-8", "gzipped"])
def test_what_is_said_to_be_packed_otherwise_is_left_alone(said: str | None) -> None:
    assert unpacker_of(said) is None


def test_what_is_badly_packed_or_never_ends_is_an_error() -> None:
    bomb = zlib.compress(bytes(17 * 1024 * 1024))
    torn = gzip.compress(b"Hello")[:10] + b"\xff" * 40
    for sent in (bomb, torn):
        unpacker = unpacker_of("gzip")
        assert unpacker is not None
        with pytest.raises(UnpackingError, match="can't be unpacked"):
            unpacker.feed(sent)


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_what_follows_the_end_of_a_packed_body_is_dropped(pack: Callable[[bytes], bytes]) -> None:
    unpacker = unpacker_of("gzip")
    assert unpacker is not None
    assert unpacker.feed(pack(b"Hello") + b"x") == b"Hello"
    for _ in range(3):
        assert unpacker.feed(b"x" * 1000) == b""
    assert unpacker._inflater is not None
    assert len(unpacker._inflater.unused_data) == 1
