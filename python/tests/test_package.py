# SPDX-License-Identifier: MIT OR Apache-2.0
"""What is installed."""

import importlib.metadata

import mmu_notifier as mn


def test_the_version_is_that_of_the_distribution() -> None:
    assert mn.__version__ == importlib.metadata.version("mmu_notifier")
