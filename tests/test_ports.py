"""The ports that tests hand out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.ports import free_port

# Would draw the same port first.
OTHER = """
import itertools, secrets, sys
from tests import ports

mine = iter([int(sys.argv[1]) - 20_000])
drawn = itertools.chain(mine, itertools.count(7))
secrets.randbelow = lambda _: next(drawn)
print(ports.free_port())
"""


def test_a_port_is_given_to_one_test_only() -> None:
    mine = free_port()
    told = subprocess.run(
        [sys.executable, "-c", OTHER, str(mine)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(told.stdout) != mine
