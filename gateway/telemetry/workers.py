"""Figures of several worker processes behind one address: whichever is asked answers for all.

Each leaves a copy of its figures in a directory now and then. Every sample carries the label
`worker`, the process's id, so that nothing is added up that a query can add up itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import orjson
from prometheus_client.metrics_core import Metric

COPY_EVERY_S = 5.0
_LABEL = "worker"


class SharedFigures:
    """One process's place among those that share `directory`."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._own = directory / f"{os.getpid()}.json"

    def leave(self, families: Iterable[Metric]) -> None:
        """Write a copy for the others, in one step."""
        plain = [
            (f.name, f.documentation, f.type, [(s.name, s.labels, s.value) for s in f.samples])
            for f in families
        ]
        draft = self._own.with_suffix(".draft")
        draft.write_bytes(orjson.dumps(plain))
        draft.replace(self._own)

    def merged(self, own: Iterable[Metric]) -> list[Metric]:
        """This process's figures with those of the others that run."""
        found: dict[str, Metric] = {}
        for family in own:
            _add(found, family, str(os.getpid()))
        for path in sorted(self._directory.glob("*.json")):
            if path != self._own and _runs(int(path.stem)):
                for family in _read(path):
                    _add(found, family, path.stem)
            elif path != self._own:
                path.unlink(missing_ok=True)
        return list(found.values())


def _read(path: Path) -> Iterator[Metric]:
    try:
        plain = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        # Its process ended a moment ago.
        return
    for name, documentation, kind, samples in plain:
        family = Metric(name, documentation, kind)
        for sample, labels, value in samples:
            family.add_sample(sample, labels, value)
        yield family


def _add(found: dict[str, Metric], family: Metric, worker: str) -> None:
    whole = found.setdefault(family.name, Metric(family.name, family.documentation, family.type))
    for sample in family.samples:
        whole.add_sample(sample.name, {**sample.labels, _LABEL: worker}, sample.value)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
