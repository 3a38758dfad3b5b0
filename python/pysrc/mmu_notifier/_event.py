# SPDX-License-Identifier: MIT OR Apache-2.0
"""Why ranges change."""

from __future__ import annotations

import enum

__all__ = ["Event"]


class Event(enum.IntEnum):
    """Why a range of an address space changes; the numbers are the kernel's (SPEC 1.5)."""

    UNMAP = 0
    """The range is unmapped: munmap, the old range of mremap, exit."""
    CLEAR = 1
    """Page table entries are removed or replaced for any other reason."""
    PROTECTION_VMA = 2
    """Permissions change for the whole range, as mprotect does."""
    PROTECTION_PAGE = 3
    """Permissions change page by page."""
    SOFT_DIRTY = 4
    """Soft-dirty tracking starts over."""
    RELEASE = 5
    """The address space ends; made by the library, for interval notifiers only (RL-1)."""
    MIGRATE = 6
    """Pages migrate to or from device memory; ``Range.owner`` tells whose."""
    EXCLUSIVE = 7
    """Pages become exclusive to a device; ``Range.owner`` tells whose."""
