"""Bodies that are said to be packed, unpacked as they come, the same on either path."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, AsyncIterator

import httpx2

_SAID = frozenset({"gzip", "x-gzip", "deflate"})
_MOST_AT_ONCE = 16 * 1024 * 1024
"""What one piece may come to; no answer is so long."""
_GZIP_OR_ZLIB = 47


class UnpackingError(ValueError):
    """It is packed, but not rightly."""


class Unpacker:
    """Unpacks one body: whether it is packed is told by how it begins.

    Some proxies hand on what they unpacked with the old `content-encoding`. No JSON, no stream of
    events and no page begins as a packed body does.
    """

    def __init__(self) -> None:
        self._begun = False
        self._inflater: zlib._Decompress | None = None

    def feed(self, piece: bytes) -> bytes:
        """What the next piece, never empty, says; b"" if that takes more of it.

        Raises:
            UnpackingError: It can't be unpacked, or comes to more than any answer has.
        """
        if not self._begun:
            self._begun = True
            if _is_packed(piece):
                self._inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
        if self._inflater is None:
            return piece
        if self._inflater.eof:
            # It would be kept, and all of it copied for each further piece.
            return b""
        try:
            said = self._inflater.decompress(piece, _MOST_AT_ONCE)
        except zlib.error:
            said = None
        if said is None or self._inflater.unconsumed_tail:
            raise UnpackingError("sent a body that can't be unpacked")
        return said


def unpacker_of(encoding: str | None) -> Unpacker | None:
    """What is needed for a body with this `content-encoding`; None: it is as it is."""
    if not encoding or _SAID.isdisjoint(encoding.lower().replace(",", " ").split()):
        return None
    return Unpacker()


def unpacked(response: httpx2.Response) -> AsyncIterator[bytes]:
    """The pieces of a body as they come; raises `UnpackingError` as `Unpacker.feed` does."""
    unpacker = unpacker_of(response.headers.get("content-encoding"))
    return response.aiter_bytes() if unpacker is None else _fed(unpacker, response.aiter_raw())


async def _fed(unpacker: Unpacker, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    async for piece in pieces:
        if said := unpacker.feed(piece):
            yield said


def _is_packed(begins: bytes) -> bool:
    # RFC 1952, and RFC 1950: its first two bytes are a multiple of 31.
    if begins[0] == 0x1F:
        return True
    return begins[0] & 0x8F == 8 and (len(begins) == 1 or int.from_bytes(begins[:2]) % 31 == 0)
