"""A crew on a Ray cluster (extra `ray`), for work that one machine is too small for."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from eval.crew import Found, Piece, Shared
from eval.errors import CrewError
from routers.errors import MissingExtraError

_AT_ONCE = 256
_TRIES_AGAIN = 3
_CONNECT_S = 5.0
_NOT_IMPORTED = "The remote function failed to import on the worker"
_ROOT = Path(__file__).parents[1]
_OUR_CODE = [str(_ROOT / package) for package in ("eval", "experts", "gateway", "routers")]


@dataclass(frozen=True, slots=True)
class Lost:
    """What came of a piece whose worker or machine died, and why in one sentence."""

    why: str


class RayCrew:
    """Tasks of one CPU each on a cluster, within `with`; at its end, however it comes, all stop.

    Our code goes along, so the cluster needs none of it, but the packages that it needs. A cluster
    that wants a token is told that of the environment: `RAY_AUTH_MODE=token`, `RAY_AUTH_TOKEN`.

    Args:
        address: `HOST:PORT` of the head, or `ray://HOST:PORT` of a server of Ray clients.
        jobs: How many tasks at a time, >= 1; by default as many as the cluster has CPUs for.
    """

    def __init__(self, address: str, jobs: int | None = None) -> None:
        self._address = address
        self._at_once = jobs or _AT_ONCE

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            MissingExtraError: Ray is not installed.
            CrewError: No cluster answers.
        """
        ray = _ray()
        self._knock()
        try:
            ray.init(
                self._address,
                runtime_env={"py_modules": _OUR_CODE},
                log_to_driver=False,
                logging_level="error",
            )
        except (ConnectionError, RuntimeError) as error:
            raise CrewError(
                f"what answers at {self._address} lets nobody in as a Ray cluster would: check its "
                "version of Ray and Python, and RAY_AUTH_MODE and RAY_AUTH_TOKEN if it has a token"
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        _ray().shutdown()

    def each(
        self, work: Callable[[Shared, Piece], Found], shared: Shared, pieces: Sequence[Piece]
    ) -> Iterator[tuple[int, Found]]:
        """As every crew; a piece whose worker dies is begun again, a few times."""
        for place, found in self._done(work, shared, pieces, _TRIES_AGAIN):
            if isinstance(found, Lost):
                raise CrewError(found.why)
            yield place, found

    def once(
        self, work: Callable[[Shared, Piece], Found], shared: Shared, pieces: Sequence[Piece]
    ) -> Iterator[tuple[int, Found | Lost]]:
        """Like `each`, for work that has effects: no piece is begun twice."""
        return self._done(work, shared, pieces, 0)

    def _done(
        self, work: Callable[[Any, Any], Any], shared: Any, pieces: Sequence[Any], again: int
    ) -> Iterator[tuple[int, Any]]:
        ray = _ray()
        task = ray.remote(num_cpus=1, max_retries=again)(work)
        held = ray.put(shared)
        todo = iter(enumerate(pieces))
        waiting: dict[Any, int] = {}
        try:
            while True:
                for place, piece in islice(todo, self._at_once - len(waiting)):
                    waiting[task.remote(held, piece)] = place
                if not waiting:
                    return
                (done,), _ = ray.wait(list(waiting), num_returns=1)
                yield waiting.pop(done), _result(ray, done)
        except ConnectionError as error:
            raise CrewError(f"the Ray cluster at {self._address} is gone: {error}") from error

    def _knock(self) -> None:
        """Ray itself would try for a quarter of an hour."""
        url = urlsplit(self._address if "//" in self._address else f"//{self._address}")
        try:
            where = url.hostname, url.port
        except ValueError:
            where = None, None
        if url.scheme not in ("", "ray") or None in where:
            raise CrewError(f"--ray {self._address} must be HOST:PORT or ray://HOST:PORT")
        try:
            socket.create_connection(where, timeout=_CONNECT_S).close()
        except OSError as error:
            raise CrewError(
                f"no Ray cluster answers at {self._address}: {error.strerror or error}"
            ) from error


def _result(ray: Any, done: Any) -> Any:
    try:
        return ray.get(done)
    except ray.exceptions.RayTaskError as error:
        if _NOT_IMPORTED not in str(error.cause):
            # What the work itself raised, as it would be without Ray.
            raise error.cause from None
        last = str(error).strip().splitlines()[-1]
        raise CrewError(
            f"a worker of the cluster can't run our code ({last}): install the packages of this "
            "version of Pointsman on all of its machines"
        ) from error
    except ray.exceptions.RayError as error:
        return Lost(f"work was lost on the cluster: {str(error).splitlines()[0]}")


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise MissingExtraError("spreading work over Ray", "ray") from None
    return ray
