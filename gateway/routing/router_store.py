"""Router versions on disk, the pointer to the promoted one, and what is being served.

Layout: `<data_dir>/routers/<name>/<version>/` holds an artifact, never changed once written;
`<name>/promoted.json` points to the one that serves. A swap is one `os.replace` of the pointer, so
every worker sees the old version or the new one, and requests in flight keep what they began with.
Who moves it holds a lock from reading it until it is written, so that no move undoes another.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from experts.whole_files import whole_file
from gateway.errors import ConfigError
from gateway.ids import now
from routers.errors import ArtifactError
from routers.router import Router
from routers.storage.artifacts import load_router, save_router

_POINTER = "promoted.json"
_LOCK = "promoted.lock"
# Names come from commands and from `/admin`, and become directories.
_NAME = re.compile(r"[A-Za-z0-9_][\w.:@+-]{0,199}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Trial:
    """A version that is tried beside the one that serves.

    Attributes:
        version: Which.
        share: Of the requests that it decides, in [0, 1); 0 means that it only says what it would
            have done.
        at: Since when.
    """

    version: str
    share: float
    at: float


@dataclass(frozen=True, slots=True)
class Promotion:
    """Which version serves, since when, which served before it, and which is tried."""

    version: str
    at: float
    history: tuple[str, ...] = ()
    trial: Trial | None = None


class RouterStore:
    """Publishes, promotes, rolls back and loads routers under one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def publish(self, router: Router) -> str:
        """Write a version and return it; publishing the same router twice changes nothing."""
        home = self.home(router.name)
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
        return (self.home(name) / version / "manifest.json").stat().st_mtime

    def versions(self, name: str) -> list[str]:
        """All versions of a router, oldest first."""
        home = self.home(name)
        found = [p for p in home.glob("*/manifest.json") if not p.parent.name.startswith(".")]
        return [p.parent.name for p in sorted(found, key=lambda p: p.stat().st_mtime)]

    def manifest(self, name: str, version: str) -> dict[str, Any]:
        path = self.home(name) / version / "manifest.json"
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content

    def promoted(self, name: str) -> Promotion | None:
        """What serves; None: nothing does.

        Raises:
            ConfigError: The pointer can't be read, or is none.
        """
        path = self.home(name) / _POINTER
        try:
            return _promotion(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"'{path}' can't be read: {error.strerror}") from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"'{path}' does not say which version serves; delete it and promote one again"
            ) from error

    def promote(self, name: str, version: str) -> Promotion:
        """Make `version` (or the only one it is a prefix of) the one that serves."""
        full = self._full(name, version)
        with self._moving(name):
            before = self.promoted(name)
            if before and before.version == full:
                return self._without_trial(name, before)
            history = (*before.history, before.version) if before else ()
            return self._point(name, Promotion(full, now(), history))

    def try_out(self, name: str, version: str, share: float) -> Promotion:
        """Let `version` decide a share of the requests beside the one that serves.

        Trying out the same version with the same share again changes nothing.

        Raises:
            ConfigError: There is no such version, none serves yet, or the share is not in [0, 1).
        """
        if not 0 <= share < 1:
            raise ConfigError(f"a trial's share must be in [0, 1), got {share!r}")
        full = self._full(name, version)
        with self._moving(name):
            current = self.promoted(name)
            if current is None:
                raise ConfigError(f"router {name!r} serves no version beside which to try another")
            if current.version == full:
                raise ConfigError(f"router {name!r} serves version {full!r} already")
            tried = current.trial
            if tried and (tried.version, tried.share) == (full, share):
                return current
            return self._point(name, replace(current, trial=Trial(full, share, now())))

    def withdraw(self, name: str) -> Promotion:
        """End a trial; without one nothing changes.

        Raises:
            ConfigError: No version of the router serves.
        """
        with self._moving(name):
            current = self.promoted(name)
            if current is None:
                raise ConfigError(f"router {name!r} serves no version")
            return self._without_trial(name, current)

    def rollback(self, name: str) -> Promotion:
        """Serve again what served before; a trial ends."""
        with self._moving(name):
            current = self.promoted(name)
            if current is None or not current.history:
                raise ConfigError(f"router {name!r} has no earlier version to go back to")
            before = current.history[-1]
            return self._point(name, Promotion(before, now(), current.history[:-1]))

    def load(self, name: str, version: str) -> Router:
        """The router of a version.

        Raises:
            ConfigError: There is no such version.
            ArtifactError: It is damaged, or what lies there is another version.
        """
        full = self._full(name, version)
        router = load_router(self.home(name) / full)
        if router.version != full:
            raise ArtifactError(
                f"'{self.home(name) / full}' holds version {router.version!r}: it was replaced"
            )
        return router

    def home(self, name: str) -> Path:
        """The directory of one router."""
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

    @contextmanager
    def _moving(self, name: str) -> Iterator[None]:
        """Nobody else moves the pointer while the context is open."""
        home = self.home(name)
        if not home.is_dir():
            yield
            return
        with (home / _LOCK).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _without_trial(self, name: str, current: Promotion) -> Promotion:
        return self._point(name, replace(current, trial=None)) if current.trial else current

    def _point(self, name: str, promotion: Promotion) -> Promotion:
        home = self.home(name)
        content = {
            "version": promotion.version,
            "at": promotion.at,
            "history": list(promotion.history),
            "trial": asdict(promotion.trial) if promotion.trial else None,
        }
        with whole_file(home / _POINTER, durable=True) as written:
            written.write_text(json.dumps(content), encoding="utf-8")
        return promotion


def _promotion(pointer: dict[str, Any]) -> Promotion:
    trial = pointer.get("trial")
    return Promotion(
        str(pointer["version"]),
        float(pointer["at"]),
        tuple(pointer["history"]),
        Trial(**trial) if trial else None,
    )
