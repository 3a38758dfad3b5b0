# SPDX-License-Identifier: MIT OR Apache-2.0
"""The Linux kernel's MMU-notifier contract, from Python.

Address spaces, subscribers, ranges and their events, on the same core that C drivers link.
"""

from mmu_notifier._mmu_notifier import __version__

__all__ = ["__version__"]
