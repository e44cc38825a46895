"""Where retraining of a router stands, on disk, so that a crash anywhere goes on where it was."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from experts.whole_files import whole_file

Stage = Literal["idle", "fitting", "shadowing", "on_trial"]


@dataclass(frozen=True, slots=True)
class RetrainState:
    """Where one router stands.

    Attributes:
        stage: What is being done.
        until: Decisions before this time are learned from: the snapshot. Seconds since 1970.
        version: The candidate, once it is fitted.
        incumbent: What served when its trial began.
        since: When the stage began.
        scores: How many scores the router had at the last snapshot.
        moved: When what is expected ceased to be true; 0 once a router knows of it.
        prompts_moved: Whether it was only what is asked.
        watched: From when on drift is looked for.
        compared: Prompts before this time need not be compared again.
        drifts: How often it was found.
        forgotten: Expert to the time before which its scores say nothing.
        judged: From when on decisions are judged by; older ones only teach.
    """

    stage: Stage = "idle"
    until: float = 0.0
    version: str = ""
    incumbent: str = ""
    since: float = 0.0
    scores: int = 0
    moved: float = 0.0
    prompts_moved: bool = False
    watched: float = 0.0
    compared: float = 0.0
    drifts: int = 0
    forgotten: dict[str, float] = field(default_factory=dict)
    judged: float = 0.0

    def ended(self, *, known: bool) -> RetrainState:
        """Idle again; what is known of the world stays known.

        Args:
            known: Whether what serves now is known to suit the world as it has become.
        """
        return replace(
            self,
            stage="idle",
            until=0.0,
            version="",
            incumbent="",
            since=0.0,
            moved=0.0 if known else self.moved,
            prompts_moved=self.prompts_moved and not known,
        )


class Journal:
    """The state of one router in one file, replaced in one step.

    Args:
        directory: The router's own; it is made if it is not there.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "retrain.json"
        self._lock = directory / "retrain.lock"

    def read(self) -> RetrainState:
        """The state; idle before anything was done."""
        try:
            return RetrainState(**json.loads(self._path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return RetrainState()

    def write(self, state: RetrainState) -> RetrainState:
        """Make `state` the one that a restart goes on from."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(self._path, durable=True) as written:
            written.write_text(json.dumps(asdict(state)), encoding="utf-8")
        return state

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Whether nobody else is at it; nobody else will be, while the context is open."""
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
