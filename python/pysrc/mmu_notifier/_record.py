# SPDX-License-Identifier: MIT OR Apache-2.0
"""Records a program for :mod:`mmu_notifier.replay`: runs it under strace, and copies ``/proc/PID/maps`` at two moments.

strace stops a process for some milliseconds at the end of each execve and before exit_group (``--inject=...:delay_...``). It has
written the call into the trace by then, so whoever reads along finds the process standing still, with the mappings that the
kernel has just made, or with those that it ends with. A copy counts only if the process stood in that call before and
after it was made; a copy that came too late is written down as missed.

The trace is what ``strace -f -y -ttt -e trace=%memory,%process,shmget -o FILE`` writes. Beside it lies ``FILE.maps``: a JSON
object a line, ``{"line": 17, "pid": 1234, "when": "exec" | "exit", "maps": "..."}``, or ``"missed": "why"`` instead of ``maps``.

A process that a signal kills, or whose last thread calls exit, has no copy of its end.
"""

from __future__ import annotations

import json
import os
import platform
import re
import select
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

__all__ = ["Recording", "record"]

# Numbers of execve, execveat, exit_group.
_CALLS = {"x86_64": (59, 322, 231), "aarch64": (221, 281, 94)}
_EXEC = re.compile(rb"(\d+) .*?(?:execve(?:at)?\(.*|<\.\.\. execve(?:at)? resumed>.*)= 0(?: \(DELAYED\))?$")
_EXIT = re.compile(rb"(\d+) +[\d.]* *exit_group\(")


@dataclass
class Recording:
    """What :func:`record` did."""

    trace: Path
    """The trace."""
    maps: Path
    """The copies of ``/proc/PID/maps``."""
    status: int
    """How the program ended: its exit status, or minus the number of the signal that killed it."""
    lines: int = 0
    """Lines of the trace."""
    copies: int = 0
    """Copies of ``/proc/PID/maps``."""
    missed: list[str] = field(default_factory=list)
    """Copies that came too late, and why."""


def record(program: Sequence[str], output: str | os.PathLike[str], *, delay: float = 0.05, copies: bool = True) -> Recording:
    """Runs ``program`` (a command and its arguments) under strace, and writes the trace to the file ``output``.

    ``delay``: how long, in seconds, each process stands still at each execve and exit for its copy to be made; on a busy
    machine a longer one misses fewer. ``copies=False`` makes none, and delays nothing.

    Raises FileNotFoundError if strace is not installed, ValueError if there is no program or the delay is negative, and OSError with
    what the system says.
    """
    strace = shutil.which("strace")
    if strace is None:
        raise FileNotFoundError("strace is not installed: it records programs")
    if not program:
        raise ValueError("no program to record")
    if not delay >= 0:
        raise ValueError(f"the delay is {delay} s, which is no time to wait")
    copies = copies and platform.machine() in _CALLS
    trace = Path(output)
    command = [strace, "-f", "-q", "-y", "-ttt", "-e", "trace=%memory,%process,shmget", *_seccomp(strace)]
    if copies:
        microseconds = max(1, round(delay * 1e6))
        command += ["-e", f"inject=execve,execveat:delay_exit={microseconds}"]
        command += ["-e", f"inject=exit_group:delay_enter={microseconds}"]
    recording = Recording(trace, Path(f"{trace}.maps"), 0)
    # These are opened first: nothing is run that could not be written down.
    with (
        open(recording.trace, "wb") as lines,
        open(recording.maps, "w", encoding="utf-8") as maps,
        tempfile.TemporaryDirectory(prefix="mmu_notifier-") as folder,
    ):
        pipe = Path(folder, "trace")
        os.mkfifo(pipe)
        # strace delays no end of the execve that it makes itself, so the program's is that of a shell.
        shell = ["sh", "-c", 'exec "$@"', "sh"] if copies else []
        command += ["-o", str(pipe), "--", *shell, *program]
        # A reader must be there when strace opens the pipe, and a writer until it has.
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        keeper = os.open(pipe, os.O_WRONLY | os.O_CLOEXEC)
        os.set_blocking(reader, True)
        try:
            process = subprocess.Popen(command)
        except BaseException:
            os.close(reader)
            os.close(keeper)
            raise
        watcher = _Watcher(recording, maps) if copies else None
        return _follow(process, reader, keeper, recording, lines, watcher)


def _seccomp(strace: str) -> list[str]:
    """Lets calls that nobody looks at run at full speed, where strace can."""
    usage = subprocess.run([strace, "-h"], capture_output=True, text=True, check=False).stdout
    return ["--seccomp-bpf"] if "--seccomp-bpf" in usage else []


def _follow(
    process: subprocess.Popen[bytes], reader: int, keeper: int, recording: Recording, lines: IO[bytes], watcher: _Watcher | None
) -> Recording:
    while process.poll() is None and not select.select([reader], [], [], 0.05)[0]:
        pass
    # strace has opened the pipe, or is gone.
    os.close(keeper)
    while data := os.read(reader, 1 << 16):
        lines.write(data)
        recording.lines += data.count(b"\n")
        if watcher is not None:
            watcher.read(data)
    os.close(reader)
    recording.status = process.wait()
    return recording


class _Watcher:
    """Reads along, and copies the maps of who stands still."""

    def __init__(self, recording: Recording, maps: IO[str]) -> None:
        self.recording = recording
        self.maps = maps
        self.rest = b""
        self.number = 0
        self.exits_seen: set[int] = set()
        self.execve, self.execveat, self.exit_group = _CALLS[platform.machine()]

    def read(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.number += 1
            self.look(line, self.number)
        # exit_group stands without an end as long as its process stands still.
        self.look(self.rest, self.number + 1)

    def look(self, line: bytes, number: int) -> None:
        if (found := _EXIT.match(line)) and number not in self.exits_seen:
            self.exits_seen.add(number)
            self.copy(int(found[1]), "exit", number, {self.exit_group})
        # The first execve is strace's own.
        elif number > 1 and line is not self.rest and (found := _EXEC.match(line)):
            self.copy(int(found[1]), "exec", number, {self.execve, self.execveat})

    def copy(self, pid: int, when: str, number: int, calls: set[int]) -> None:
        entry: dict[str, object] = {"line": number, "pid": pid, "when": when}
        try:
            before = _call_of(pid)
            text = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
            after = _call_of(pid)
            if before not in calls or after != before:
                raise ProcessLookupError("it went on too early")
        except OSError as error:
            entry["missed"] = str(error)
            self.recording.missed.append(f"line {number}, pid {pid}, {when}: {error}")
        else:
            entry["maps"] = text
            self.recording.copies += 1
        self.maps.write(json.dumps(entry) + "\n")


def _call_of(pid: int) -> int:
    """The number of the system call that a thread stands in; -1 while it runs."""
    number = Path(f"/proc/{pid}/syscall").read_text(encoding="ascii").split()[0]
    return int(number) if number.lstrip("-").isdigit() else -1
