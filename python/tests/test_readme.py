# SPDX-License-Identifier: MIT OR Apache-2.0
"""The Python of README.md runs, and prints what its comments say."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_there_is_python() -> None:
    assert BLOCKS


@pytest.mark.parametrize("block", BLOCKS)
def test_it_prints_what_it_says(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = re.findall(r"print\(.*?\)\s+# (.*)", block)
    assert said
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out.splitlines() == said
