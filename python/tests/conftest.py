# SPDX-License-Identifier: MIT OR Apache-2.0
"""The closing line that scripts/tally.sh reads."""

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    def count(*outcomes: str) -> int:
        return sum(len(terminalreporter.stats.get(outcome, [])) for outcome in outcomes)

    terminalreporter.ensure_newline()
    terminalreporter.write_line(
        f"{count('passed', 'xfailed')} passed, {count('failed', 'error', 'xpassed')} failed, {count('skipped')} skipped"
    )
