"""Files that appear under their name whole or not at all, however the process ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def whole_file(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A file to write to, that takes the place of `path` when the block ends without an error.

    Only its owner may read it, unless the block says otherwise.

    Args:
        path: In a folder that is there.
        durable: Whether the disk must have it before it takes the place.
    """
    with TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
        written = Path(folder) / path.name
        written.touch(mode=0o600)
        yield written
        if durable:
            with written.open("rb") as file:
                os.fsync(file.fileno())
        written.replace(path)
