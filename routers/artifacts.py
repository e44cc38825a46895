"""Routers on disk: safetensors files and a manifest with the hash of each. Never runs code."""

from __future__ import annotations

from pathlib import Path

from routers.router import Router


def save_router(router: Router, directory: Path) -> str:
    """Write `router` into `directory`, wholly or not at all.

    Returns:
        Its version: a hash of the content, so equal routers have equal versions.

    Raises:
        ArtifactError: `directory` holds something that is no router.
    """
    raise NotImplementedError


def load_router(directory: Path) -> Router:
    """Read a router back, after checking every hash.

    Raises:
        ArtifactError: A file is missing or damaged, or the artifact is of an unknown kind.
    """
    raise NotImplementedError
