"""Runs one program with as few rights as the kernel can leave it. Started by `sandbox.py`.

Nobody imports this: it is the main file of a process without environment and site packages, which
reads its job from standard input and ends with one of the codes of `sandbox.py`. Before the program
runs, this process

1. has no capabilities, even if it is root's;
2. has limits on processor time, memory, open files and the length of its output;
3. may read nothing but Python's own files, and write none (Landlock);
4. may start no process or thread, make no socket, signal nobody (seccomp).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import resource
import struct
import sys
from pathlib import Path
from typing import Any

_PASSED, _FAILED, _UNABLE = 0, 9, 10
_RULESET, _ADD_RULE, _RESTRICT = 444, 445, 446
_READ = 0b1101
"""Landlock's bits: run, read a file, list a folder."""
_MOST_OUTPUT = 1 << 16
_NO_NEW_PRIVS, _SECCOMP, _FILTER = 38, 22, 2
_CAPABILITIES_V3 = 0x20080522
_BARRED = {
    # socket, clone, fork, vfork, execve, kill, ptrace, setpriority, sched_set{param,scheduler},
    # mount, tkill, sched_setaffinity, tgkill, add_key, request_key, keyctl, ioprio_set, unshare,
    # rt_{,tg}sigqueueinfo, perf_event_open, prlimit64, open_by_handle_at, setns,
    # process_vm_{readv,writev}, bpf, execveat, userfaultfd, pidfd_send_signal, io_uring_setup,
    # pidfd_open, clone3
    "x86_64": (
        *(0xC000003E, 41, 56, 57, 58, 59, 62, 101, 141, 142, 144, 165, 200, 203, 234, 248, 249),
        *(250, 251, 272, 129, 297, 298, 302, 304, 308, 310, 311, 321, 322, 323, 424, 425, 434, 435),
    ),
    "aarch64": (
        *(0xC00000B7, 198, 220, 221, 129, 117, 140, 118, 119, 40, 130, 122, 131, 217, 218),
        *(219, 30, 97, 138, 240, 241, 261, 265, 268, 270, 271, 280, 281, 282, 424, 425, 434, 435),
    ),
}
"""By machine: how the kernel calls it, then the numbers of what may not be asked of the kernel."""
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Read the job, give up every right, run it."""
    job = json.loads(sys.stdin.read())
    os.close(0)
    # Said at the end only: a program that ends early by itself has not passed.
    word = job.pop("word")
    unable = _give_up(job)
    if unable and job["strict"]:
        _end(unable, _UNABLE)
    names = {"__name__": "__main__", "__builtins__": __builtins__}
    try:
        for part in ("program", "tests"):
            exec(compile(job[part], f"<{part}>", "exec"), names)  # noqa: S102 - what it is for
    except BaseException as error:  # noqa: BLE001 - whatever it is, the answer has failed
        _end(" ".join(f"{type(error).__name__}: {error}".split())[:200], _FAILED)
    _end(word, _PASSED)


def _end(word: str, code: int) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"\n{word}".encode("utf-8", "replace"))
    os._exit(code)


def _give_up(job: dict[str, Any]) -> str:
    """Give up rights; what could not be given up, in words."""
    for name, most in (
        ("RLIMIT_CPU", job["cpu_s"]),
        ("RLIMIT_AS", job["memory_bytes"]),
        ("RLIMIT_FSIZE", _MOST_OUTPUT),
        ("RLIMIT_NOFILE", 32),
        ("RLIMIT_CORE", 0),
    ):
        resource.setrlimit(getattr(resource, name), (most, most))
    header, nothing = struct.pack("=Ii", _CAPABILITIES_V3, 0), bytes(24)
    steps = (
        ("keep it from new rights", lambda: _libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) == 0),
        ("take its capabilities", lambda: _libc.capset(header, nothing) == 0),
        ("bar files (Landlock)", _bar_files),
        ("bar calls (seccomp)", _bar_calls),
    )
    failed = [what for what, step in steps if not step()]
    return f"the kernel can't {', can not '.join(failed)}" if failed else ""


def _bar_files() -> bool:
    version = _libc.syscall(_RULESET, None, 0, 1)
    if version < 1:
        return False
    handled = (1 << (13 + (version >= 2) + (version >= 3) + (version >= 5))) - 1
    ruleset = _libc.syscall(_RULESET, struct.pack("=Q", handled), 8, 0)
    if ruleset < 0:
        return False
    library = os.open(Path(os.__file__).parent, os.O_PATH)
    if _libc.syscall(_ADD_RULE, ruleset, 1, struct.pack("=Qi", _READ, library), 0) < 0:
        return False
    os.close(library)
    if _libc.syscall(_RESTRICT, ruleset, 0) < 0:
        return False
    os.close(ruleset)
    return True


def _bar_calls() -> bool:
    barred = _BARRED.get(platform.machine())
    if barred is None or sys.maxsize < 1 << 32:
        return False
    machine, *numbers = barred
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    count = len(numbers)
    program = [
        (load, 0, 0, 4),
        (equal, 0, count + 3, machine),
        (load, 0, 0, 0),
        # x86's second set of numbers.
        (at_least, count + 1, 0, 0x40000000),
        *((equal, count - index, 0, number) for index, number in enumerate(numbers)),
        (answer, 0, 0, 0x7FFF0000),
        (answer, 0, 0, 0x00050001),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    whole = struct.pack("@HP", len(program), ctypes.addressof(code))
    return bool(_libc.prctl(_SECCOMP, _FILTER, ctypes.c_char_p(whole), 0, 0) == 0)


if __name__ == "__main__":
    main()
