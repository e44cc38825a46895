"""Identifiers differ, sort by time, and are another process's in a child."""

from __future__ import annotations

import os
import re
import threading

from gateway.ids import new_id


def test_ids_of_several_threads_differ_and_have_their_form() -> None:
    found: list[list[str]] = [[] for _ in range(4)]

    def make(into: list[str]) -> None:
        into.extend(new_id("req") for _ in range(5000))

    threads = [threading.Thread(target=make, args=(into,)) for into in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = [each for into in found for each in into]
    assert len(set(ids)) == len(ids) == 20_000
    assert all(re.fullmatch(r"req-[0-9a-f]{32}", each) for each in ids)


def test_ids_sort_by_the_millisecond_they_were_made_in() -> None:
    ids = [new_id("x") for _ in range(2000)]
    times = [each[2:14] for each in ids]
    assert times == sorted(times)


def test_a_child_hands_out_other_chance_than_its_parent() -> None:
    new_id("x")
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, "".join(new_id("x")[14:] for _ in range(3)).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    theirs = os.read(read, 1000).decode()
    os.close(read)
    os.close(write)
    mine = [new_id("x")[14:] for _ in range(3)]
    assert len(theirs) == 60
    assert not any(each in theirs for each in mine)
