"""Router versions on disk, the pointer to the promoted one, and what is being served.

Layout: `<data_dir>/routers/<name>/<version>/` holds an artifact, never changed once written;
`<name>/promoted.json` points to the one that serves. A swap is one `os.replace` of the pointer, so
every worker sees the old version or the new one, and requests in flight keep what they began with.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.errors import ConfigError
from gateway.ids import now
from routers.artifacts import load_router, save_router
from routers.errors import ArtifactError
from routers.router import Router

_POINTER = "promoted.json"
# Names come from commands and from `/admin`, and become directories.
_NAME = re.compile(r"[A-Za-z0-9_][\w.:@+-]{0,199}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Promotion:
    """Which version serves, since when, and which served before it."""

    version: str
    at: float
    history: tuple[str, ...] = ()


class RouterStore:
    """Publishes, promotes, rolls back and loads routers under one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def publish(self, router: Router) -> str:
        """Write a version and return it; publishing the same router twice changes nothing."""
        home = self._home(router.name)
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home, prefix=".new-") as scratch:
            version = save_router(router, Path(scratch) / "artifact")
            if not (home / version).exists():
                os.replace(Path(scratch) / "artifact", home / version)  # noqa: PTH105 - atomic
        return version

    def names(self) -> list[str]:
        """Routers that have a promoted version."""
        if not self._directory.is_dir():
            return []
        found = (p for p in self._directory.iterdir() if _NAME.fullmatch(p.name))
        return sorted(p.name for p in found if (p / _POINTER).is_file())

    def all_names(self) -> list[str]:
        """Routers that have any version."""
        if not self._directory.is_dir():
            return []
        found = (p.name for p in self._directory.iterdir() if _NAME.fullmatch(p.name))
        return sorted(name for name in found if self.versions(name))

    def made_at(self, name: str, version: str) -> float:
        """When a version was published, seconds since 1970."""
        return (self._home(name) / version / "manifest.json").stat().st_mtime

    def versions(self, name: str) -> list[str]:
        """All versions of a router, oldest first."""
        home = self._home(name)
        found = [p for p in home.glob("*/manifest.json") if not p.parent.name.startswith(".")]
        return [p.parent.name for p in sorted(found, key=lambda p: p.stat().st_mtime)]

    def manifest(self, name: str, version: str) -> dict[str, Any]:
        path = self._home(name) / version / "manifest.json"
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content

    def promoted(self, name: str) -> Promotion | None:
        try:
            text = (self._home(name) / _POINTER).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        pointer = json.loads(text)
        return Promotion(pointer["version"], pointer["at"], tuple(pointer["history"]))

    def promote(self, name: str, version: str) -> Promotion:
        """Make `version` (or the only one it is a prefix of) the one that serves."""
        full = self._full(name, version)
        before = self.promoted(name)
        if before and before.version == full:
            return before
        history = (*before.history, before.version) if before else ()
        return self._point(name, Promotion(full, now(), history))

    def rollback(self, name: str) -> Promotion:
        """Serve again what served before."""
        current = self.promoted(name)
        if current is None or not current.history:
            raise ConfigError(f"router {name!r} has no earlier version to go back to")
        return self._point(name, Promotion(current.history[-1], now(), current.history[:-1]))

    def load(self, name: str, version: str) -> Router:
        """The router of a version.

        Raises:
            ConfigError: There is no such version.
            ArtifactError: It is damaged, or what lies there is another version.
        """
        full = self._full(name, version)
        router = load_router(self._home(name) / full)
        if router.version != full:
            raise ArtifactError(
                f"'{self._home(name) / full}' holds version {router.version!r}: it was replaced"
            )
        return router

    def _home(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{name[:100]!r} is no name of a router: letters, digits and _.:@+- only"
            )
        return self._directory / name

    def _full(self, name: str, version: str) -> str:
        matching = [v for v in self.versions(name) if v.startswith(version)] if version else []
        if len(matching) != 1:
            found = "no version" if not matching else f"{len(matching)} versions"
            raise ConfigError(f"router {name!r} has {found} {version!r} in {self._directory}")
        return matching[0]

    def _point(self, name: str, promotion: Promotion) -> Promotion:
        home = self._home(name)
        content = {
            "version": promotion.version,
            "at": promotion.at,
            "history": list(promotion.history),
        }
        descriptor, scratch = tempfile.mkstemp(dir=home, prefix=".pointer-")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, home / _POINTER)  # noqa: PTH105 - atomic
        return promotion
