"""A process that retrains, beside those that serve: nobody who asks notices when it dies."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_log = logging.getLogger(__name__)
_AGAIN_S = 30.0
_END_S = 10.0
# Fits must leave the processors to those who serve.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@contextmanager
def trainer_beside(path: Path | None, *, enabled: bool) -> Iterator[None]:
    """Keep `pointsman retrain --watch` running for as long as the context is open.

    Args:
        path: The configuration's file.
        enabled: Whether to do so at all.
    """
    if not enabled:
        yield
        return
    trainer = _Trainer(path)
    trainer.start()
    try:
        yield
    finally:
        trainer.stop()


class _Trainer:
    def __init__(self, path: Path | None) -> None:
        config = ["--config", str(path)] if path else []
        # What serves goes first.
        self._command = [
            "nice", sys.executable, "-m", "gateway.cli.main", "retrain", "--watch",
            "--with-parent", *config,
        ]  # fmt: skip
        self._ending = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name="trainer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
        self._thread.join(_END_S)
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def _keep(self) -> None:
        while not self._ending.is_set():
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                # Whatever ends us closes it, and it ends too.
                self._command,
                env=self._environment(),
                stdin=subprocess.PIPE,
            )
            code = self._process.wait()
            if not self._ending.is_set():
                _log.error("the process that retrains ended with %d and is started again", code)
                self._ending.wait(_AGAIN_S)

    def _environment(self) -> Mapping[str, str]:
        return {**os.environ, **_ONE_THREAD}
