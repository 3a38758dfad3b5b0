# SPDX-License-Identifier: MIT OR Apache-2.0
"""Drivers in C that are explored: what they export (<mmu_notifier/explore.h>), as a scenario.

One core. The compiled half of the package exports the C interface. It is made global before the driver is opened, so that the
driver, which is not linked with any library of ours, is bound to it.

ctypes releases the GIL around the driver's functions. ``_in_c`` tells the compiled half, which would release it at schedule points.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mmu_notifier import _mmu_notifier as _native

if TYPE_CHECKING:
    from mmu_notifier.scenario import Scenario

__all__ = ["Driver"]


_loaded: dict[str, bytes] = {}
"""What was loaded, by its path: the dynamic linker does not look whether a file has changed since."""


class Thread(ctypes.Structure):
    """struct mmu_notifier_scenario_thread."""

    name: bytes | None
    run: Callable[[], None]
    _fields_ = [("name", ctypes.c_char_p), ("run", ctypes.CFUNCTYPE(None))]


class Table(ctypes.Structure):
    """struct mmu_notifier_scenario. A function that is NULL is false."""

    setup: Callable[[], None]
    teardown: Callable[[], None]
    check: Callable[[], bytes | None]
    state: Callable[[], int]
    threads: Sequence[Thread]
    _fields_ = [
        ("setup", ctypes.CFUNCTYPE(None)),
        ("teardown", ctypes.CFUNCTYPE(None)),
        ("check", ctypes.CFUNCTYPE(ctypes.c_char_p)),
        ("state", ctypes.CFUNCTYPE(ctypes.c_uint64)),
        ("threads", ctypes.POINTER(Thread)),
    ]


def _given(function: object) -> bool:
    """Is it no NULL?"""
    return bool(function)


def _as_it_is_now(path: str, image: bytes) -> str:
    """A path by which the dynamic linker finds this image: a copy's, if it knows another one by the path itself."""
    if _loaded.setdefault(path, image) == image:
        return path
    folder = tempfile.mkdtemp(prefix="mmu_notifier-")
    # Kept to the end, for debuggers.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copy = os.path.join(folder, os.path.basename(path))
    with open(copy, "wb") as file:
        file.write(image)
    return copy


class Driver:
    """A driver in C, on the core that this package contains."""

    def __init__(self, path: str) -> None:
        with open(path, "rb") as file:
            image = file.read()
        if b"mmu_notifier_explore_point\0" not in image:
            raise ValueError(f"{path} has no schedule points: compile it with -DMMU_NOTIFIER_EXPLORE")
        if b"\0libmmu_notifier.so" in image:
            raise ValueError(f"{path} brings a library of its own: link it without -lmmu_notifier")
        # The driver's symbols are looked for in what is global.
        ctypes.CDLL(_native.__file__, mode=ctypes.RTLD_GLOBAL)
        self.library = ctypes.CDLL(_as_it_is_now(path, image))
        try:
            self.scenario = Table.in_dll(self.library, "mmu_notifier_scenario")
        except ValueError:
            raise ValueError(f"{path} exports no mmu_notifier_scenario") from None
        if not self.scenario.threads:
            raise ValueError(f"{path}: mmu_notifier_scenario has no threads")
        self.threads: list[tuple[str, Callable[[], object]]] = []
        while (thread := self.scenario.threads[len(self.threads)]).name is not None:
            self.threads.append((thread.name.decode(), thread.run))

    def setup(self, scenario: Scenario) -> None:
        """Makes a scenario of the driver afresh."""
        if _given(self.scenario.setup):
            self.scenario.setup()
        for name, run in self.threads:
            scenario.thread(self.call, run, name=name)
        if _given(self.scenario.check):
            scenario.invariant(self.check)
        if _given(self.scenario.state):
            scenario.state(self.scenario.state)
        if _given(self.scenario.teardown):
            scenario.on_close(self.scenario.teardown)

    @staticmethod
    def call(run: Callable[[], object]) -> None:
        """Runs a thread's function."""
        _native._in_c(True)
        run()
        _native._in_c(False)

    def check(self) -> str | None:
        """What the driver says is wrong."""
        said = self.scenario.check()
        return None if said is None else said.decode(errors="replace")
