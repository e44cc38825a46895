from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.reload.board import Board, Note


def test_what_was_published_last_is_in_force(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.publish("one", "start")
    board.publish("two", "reload")
    assert (board.current().number, board.text(2)) == (2, "two")
    assert [entry.number for entry in board.history()] == [1]


def test_publishing_what_is_in_force_changes_nothing(tmp_path: Path) -> None:
    first = Board(tmp_path).publish("one", "start")
    assert Board(tmp_path).publish("one", "reload") == first


def test_processes_that_publish_the_same_at_once_agree_on_one_number(tmp_path: Path) -> None:
    Board(tmp_path).publish("one", "start")
    with ThreadPoolExecutor(8) as threads:
        entries = list(threads.map(lambda _: Board(tmp_path).publish("two", "reload"), range(32)))
    assert {entry.number for entry in entries} == {2}


def test_different_ones_get_different_numbers(tmp_path: Path) -> None:
    Board(tmp_path).publish("start", "start")
    with ThreadPoolExecutor(8) as threads:
        publish = Board(tmp_path).publish
        entries = list(threads.map(lambda i: publish(f"text {i}", "reload"), range(15)))
    assert sorted(entry.number for entry in entries) == list(range(2, 17))


def test_going_back_twice_goes_further_back(tmp_path: Path) -> None:
    board = Board(tmp_path)
    for text in ("one", "two", "three"):
        board.publish(text, "reload")
    assert board.text(board.roll_back(3).number) == "two"
    assert board.text(board.roll_back(4).number) == "one"
    with pytest.raises(ConfigError, match="no earlier"):
        board.roll_back(5)


def test_two_that_go_back_at_once_go_back_once(tmp_path: Path) -> None:
    board = Board(tmp_path)
    for text in ("one", "two", "three"):
        board.publish(text, "reload")
    board.roll_back(3)
    with pytest.raises(ConfigError, match="configuration 3 is no longer in force"):
        board.roll_back(3)


def test_old_texts_are_forgotten_and_none_can_be_read_by_others(tmp_path: Path) -> None:
    board = Board(tmp_path)
    for number in range(40):
        board.publish(f"text {number}", "reload")
    files = sorted(tmp_path.glob("*.yaml"))
    assert len(files) == 20
    assert {path.stat().st_mode & 0o077 for path in files} == {0}
    assert len(board.history()) == 19


def test_notes_of_processes_that_ended_are_dropped(tmp_path: Path) -> None:
    board = Board(tmp_path)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for pid in (os.getpid(), ended.pid):
        board.note(Note(pid, 1, "digest", 0.0))
    assert [note.pid for note in board.notes()] == [os.getpid()]
