"""What results follow from beside data and seed: our own code."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_PACKAGES = ("eval", "experts", "routers")


@cache
def own_code() -> str:
    """SHA-256 of the sources that train and judge: a version says too little of a checkout."""
    digest = sha256()
    for file in sorted(file for name in _PACKAGES for file in (_ROOT / name).rglob("*.py")):
        digest.update(f"{file.relative_to(_ROOT).as_posix()}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()
