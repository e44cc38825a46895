"""Vectors of slow encoders, kept on disk by what was encoded.

A store is a folder of files that are written once, under the hash of their content, and never
changed. So any number of processes may use it at the same time, and what is damaged is made anew.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from experts.whole_files import whole_file
from routers.base import SlowEncoder
from routers.errors import RoutingError
from routers.records import Vectors

Progress = Callable[[int, int], None]
"""Hears how many texts are encoded, and of how many."""


_SUFFIX = ".safetensors"
_AT_A_TIME = 64
_PER_FILE = 1024


class VectorStore:
    """Remembers what slow encoders made of texts.

    Args:
        folder: Where; made when something is to be kept.
        most_bytes: The files used least recently go when there are more bytes than these, > 0.
        progress: Told of what has to be encoded, after every few texts.
    """

    def __init__(
        self, folder: Path, most_bytes: int = 256 * 2**20, progress: Progress | None = None
    ) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._tell = progress or _tell_nobody

    def __reduce__(self) -> tuple[type[VectorStore], tuple[Path, int]]:
        # Another process has nobody to tell.
        return VectorStore, (self._folder, self._most_bytes)

    def encode(self, encoder: SlowEncoder, texts: Sequence[str]) -> Vectors:
        """What `encoder.encode(texts)` returns.

        Raises:
            RoutingError: The folder can't be read or written.
        """
        if not texts:
            return encoder.encode(texts)
        folder = self._folder / hashlib.sha256(encoder.identity.encode()).hexdigest()[:32]
        digests = [_digest(text) for text in texts]
        try:
            known = _read(folder, set(digests))
            missing = dict(zip(digests, texts, strict=True))
            for digest in known:
                del missing[digest]
            known |= self._made(encoder, folder, missing)
        except OSError as error:
            reason = error.strerror or "it can't be used"
            raise RoutingError(
                f"vectors can't be kept in '{self._folder}': {reason}; choose another folder"
            ) from error
        return np.stack([known[digest] for digest in digests])

    def _made(
        self, encoder: SlowEncoder, folder: Path, missing: dict[bytes, str]
    ) -> dict[bytes, Vectors]:
        digests, texts = list(missing), list(missing.values())
        made: dict[bytes, Vectors] = {}
        for begin in range(0, len(texts), _PER_FILE):
            end = min(begin + _PER_FILE, len(texts))
            vectors_ND: list[Vectors] = []
            for start in range(begin, end, _AT_A_TIME):
                stop = min(start + _AT_A_TIME, end)
                vectors_ND.extend(encoder.encode(texts[start:stop]))
                self._tell(stop, len(texts))
            _write(folder, digests[begin:end], np.stack(vectors_ND))
            made |= zip(digests[begin:end], vectors_ND, strict=True)
        if made:
            _bound(self._folder, self._most_bytes)
        return made


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


def _read(folder: Path, wanted: set[bytes]) -> dict[bytes, Vectors]:
    """What the files in `folder` hold of `wanted`; files that are damaged go."""
    found: dict[bytes, Vectors] = {}
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            # Another process needed the room.
            continue
        if hashlib.sha256(content).hexdigest() != path.stem:
            path.unlink(missing_ok=True)
            continue
        try:
            arrays = load_arrays(content)
        except SafetensorError:
            path.unlink(missing_ok=True)
            continue
        rows = {bytes(digest): row for row, digest in enumerate(arrays["digests"])}
        here = rows.keys() & wanted
        found |= {digest: arrays["vectors"][rows[digest]] for digest in here}
        if here:
            with suppress(FileNotFoundError):
                os.utime(path)
    return found


def _write(folder: Path, digests: Sequence[bytes], vectors_ND: Vectors) -> None:
    digests_N32 = np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), -1)
    content = save_arrays({"digests": digests_N32, "vectors": vectors_ND})
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / f"{hashlib.sha256(content).hexdigest()}{_SUFFIX}") as written:
        written.write_bytes(content)


def _bound(folder: Path, most_bytes: int) -> None:
    """Delete what was used least recently, the newest file excepted."""
    files = []
    for path in folder.glob(f"*/*{_SUFFIX}"):
        with suppress(FileNotFoundError):
            stat = path.stat()
            files.append((stat.st_mtime_ns, stat.st_size, path))
    files.sort()
    size = sum(each for _, each, _ in files)
    for _, each, path in files[:-1]:
        if size <= most_bytes:
            return
        path.unlink(missing_ok=True)
        size -= each


def _tell_nobody(done: int, total: int) -> None:
    """Without progress."""
