# SPDX-License-Identifier: MIT OR Apache-2.0
"""Exceptions and warnings."""

from __future__ import annotations

from typing import Self

__all__ = ["BlockingError", "MisuseError", "MisuseWarning"]


class BlockingError(BlockingIOError):
    """A non-blockable range was refused by a callback (EAGAIN): the pages must stay as they are, and no end is owed (HS-8).

    ``errno`` is ``errno.EAGAIN``, or what the callback answered.
    """


class _Misuse(Exception):
    rule: str
    """The id of the rule in docs/spec/SPEC.md that was broken, for instance ``"DV-7"``."""
    function: str
    """The function that was called, by its name in C."""
    callback: str | None
    """The callback that it was called from, or None."""
    errno: int
    """The errno that the function returns in C; 0 if it has none."""

    def __init__(self, message: str, rule: str, function: str, callback: str | None = None, errno: int = 0) -> None:
        where = f" (inside the callback {callback})" if callback else ""
        super().__init__(f"[{rule}] {function}: {message}{where}")
        self.rule = rule
        self.function = function
        self.callback = callback
        self.errno = errno
        self._arguments = (message, rule, function, callback, errno)

    def __reduce__(self) -> tuple[type[Self], tuple[str, str, str, str | None, int], dict[str, object]]:
        # The default takes args, which is the whole text: an exception that cannot be unpickled hangs a multiprocessing.Pool.
        return type(self), self._arguments, vars(self)


class MisuseError(_Misuse, RuntimeError):
    """A rule of the contract was broken, and the call changed nothing beyond what the rule says.

    The kernel would warn, hang or crash. ``rule`` is the rule's id in docs/spec/SPEC.md, ``function`` the name in C of what was
    called, ``callback`` the callback that it was called from (or None), ``errno`` what the function returns in C (or 0).
    """


class MisuseWarning(_Misuse, RuntimeWarning):
    """A callback broke a rule of the contract; the library went on as the rule says.

    It is issued when the call that caused the event returns, with the attributes of :class:`MisuseError`.
    ``python -W error::mmu_notifier.MisuseWarning`` makes an exception of it.
    """
