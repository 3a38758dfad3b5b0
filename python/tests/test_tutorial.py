# SPDX-License-Identifier: MIT OR Apache-2.0
"""docs/tutorial.ipynb runs, and shows what it says. UPDATE_EXPECT=1 rewrites what it shows."""

import os
import warnings
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "tutorial.ipynb"


def shown(cell: Any) -> list[str]:
    """What a code cell shows, as text."""
    return [output.get("text") or output["data"]["text/plain"] for output in cell.get("outputs", [])]


@pytest.mark.parallel_threads(1)
def test_the_tutorial_shows_what_it_says() -> None:
    with warnings.catch_warnings():
        # What Jupyter's own modules warn of.
        warnings.simplefilter("ignore")
        import nbformat
        from nbclient import NotebookClient

        notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
        before = [shown(cell) for cell in notebook.cells]
        # What a cell prints comes in pieces, as time goes on.
        NotebookClient(notebook, timeout=60, kernel_name="python3", coalesce_streams=True).execute()
        for cell in notebook.cells:
            cell.get("metadata", {}).pop("execution", None)
        if os.environ.get("UPDATE_EXPECT"):
            nbformat.write(notebook, NOTEBOOK)  # type: ignore[no-untyped-call]
    after = [shown(cell) for cell in notebook.cells]
    assert sum(map(len, after)) > 8
    assert before == after
