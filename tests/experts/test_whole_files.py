"""Files appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from experts.whole_files import whole_file


@pytest.mark.parametrize("durable", [False, True])
def test_it_takes_the_place_when_it_is_whole(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with whole_file(path, durable=durable) as written:
        written.write_text("new")
        assert path.read_text() == "old"
        assert written.suffix == path.suffix
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def fail() -> None:
        with whole_file(path) as written:
            written.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
