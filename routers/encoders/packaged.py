"""Files that were trained elsewhere and come inside a package: not downloaded, known by hash."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from routers.errors import MissingExtraError, RoutingError

_PIECE = 1 << 18


@dataclass(frozen=True, slots=True)
class PackagedFiles:
    """What an encoder takes out of a package, none of whose code is run.

    Attributes:
        package: Its distribution.
        names: Of the files, whose contents together are what a router was trained with.
        what: Who needs it, in words.
        extra: Which extra installs it.
    """

    package: str
    names: tuple[str, ...]
    what: str
    extra: str

    def path(self, name: str) -> Path:
        """Where the file is.

        Raises:
            MissingExtraError: The package is not installed.
            RoutingError: It is, and brings no such file.
        """
        try:
            package = distribution(self.package)
        except PackageNotFoundError as error:
            raise self.missing() from error
        path = Path(str(package.locate_file(name)))
        if not path.exists():
            raise RoutingError(
                f"{self.package} {package.version} brings no '{name}'; install the version that "
                f"the extra names: pip install 'pointsman[{self.extra}]'"
            )
        return path

    def missing(self) -> MissingExtraError:
        """What to raise when a part of the extra can't be imported."""
        return MissingExtraError(self.what, self.extra)

    def sha256(self) -> str:
        """Of all the files; reads them once in a process."""
        return _sha256(tuple(self.path(name) for name in self.names))

    def check(self, trained_with: str, kind: str) -> None:
        """Raises RoutingError unless `trained_with` is `sha256`; `kind` names what differs."""
        if trained_with != self.sha256():
            raise RoutingError(
                f"the router was trained with another {kind} than that of {self.package} "
                f"{distribution(self.package).version}; train it again"
            )


@lru_cache(maxsize=8)
def _sha256(paths: Sequence[Path]) -> str:
    content = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            # Room for a whole table at once costs as much as its hash.
            while piece := file.read(_PIECE):
                content.update(piece)
    return content.hexdigest()
