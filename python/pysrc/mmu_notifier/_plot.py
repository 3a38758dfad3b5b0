# SPDX-License-Identifier: MIT OR Apache-2.0
"""Pictures of traces: the address space of a replay over time, and the schedule of a scenario.

Colours are those of Okabe and Ito, which colour-blind people can tell apart. A replay is drawn into a grid of fixed size, so that a
picture of 100,000 events is no larger than one of 1,000. HTML is the SVG with a few lines of script: the wheel zooms, dragging
moves, a double click goes back.
"""

from __future__ import annotations

import html
import io
import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmu_notifier._replay import Replayed
from mmu_notifier.trace import Step

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot"]

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY = "#777777"

FORMATS = (".html", ".svg", ".png")


def check(path: str | os.PathLike[str]) -> str:
    """The format of a picture's file. Raises ValueError if there is none of that name, ImportError without matplotlib."""
    ending = Path(path).suffix.lower()
    if ending not in FORMATS:
        raise ValueError(f"{os.fspath(path)}: a picture is {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    _need_matplotlib()
    return ending


def _need_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ImportError("pictures need matplotlib: pip install 'mmu_notifier[plot]'") from None


def plot(
    what: Replayed | Sequence[Step],
    path: str | os.PathLike[str] | None = None,
    *,
    space: int | None = None,
    title: str | None = None,
) -> Figure:
    """Draws a trace: the steps of a scenario (:mod:`mmu_notifier.trace`) as swim lanes, or a :class:`Replayed` as an address space
    over time. Returns the figure, of matplotlib, which a notebook shows.

    ``path``: a file to write, .html, .svg or .png. ``space``: the address space of a replay to draw, by number; by default that
    with the most events. ``title``: instead of the one that it makes up.

    Raises TypeError if ``what`` is neither, ValueError if there is nothing to draw (a replay has to be run with ``keep``), and
    ImportError without matplotlib (``pip install 'mmu_notifier[plot]'``).
    """
    ending = None if path is None else check(path)
    _need_matplotlib()
    if isinstance(what, Replayed):
        from mmu_notifier._plot_replay import draw

        figure, tips = draw(what, space, title), dict[str, str]()
    else:
        from mmu_notifier._plot_schedule import draw as draw_schedule

        if not isinstance(what, Sequence) or not all(isinstance(one, dict) for one in what):
            raise TypeError(f"a picture is that of a Replayed or of a trace, as run.trace, not of {type(what).__name__}")
        figure, tips = draw_schedule(list(what), title)
    if path is not None and ending is not None:
        _write(figure, path, ending, tips)
    # Notebooks show it, whether pyplot is loaded or not.
    setattr(figure, "_repr_png_", partial(_png, figure))
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80, bbox_inches="tight")
    return buffer.getvalue()


def _write(figure: Figure, path: str | os.PathLike[str], ending: str, tips: dict[str, str]) -> None:
    if ending == ".png":
        figure.savefig(path, dpi=150, bbox_inches="tight")
        return
    svg = _svg(figure, tips)
    text = svg if ending == ".svg" else _PAGE.replace("TITLE", html.escape(_title(figure))).replace("PICTURE", svg)
    Path(path).write_text(text, encoding="utf-8")


def _title(figure: Figure) -> str:
    return figure.get_suptitle() or "mmu_notifier"


def _svg(figure: Figure, tips: dict[str, str]) -> str:
    """The figure as SVG, with the tips as titles of the groups of their names."""
    import matplotlib as mpl

    buffer = io.StringIO()
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "mmu_notifier"}
    with mpl.rc_context(settings):
        figure.savefig(buffer, format="svg", dpi=110, bbox_inches="tight", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]

    def with_title(found: re.Match[str]) -> str:
        tip = tips.get(found[1])
        return found[0] if tip is None else f"{found[0]}<title>{html.escape(tip)}</title>"

    return re.sub(r'<g id="([^"]+)">', with_title, svg)


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>TITLE</title>
<style>html,body{margin:0;height:100%;background:#fff}svg{width:100vw;height:100vh;cursor:grab}</style></head>
<body>PICTURE
<script>
// The wheel zooms at the pointer, dragging moves, a double click shows all again.
const svg = document.querySelector("svg"), box = svg.viewBox.baseVal;
const all = [box.x, box.y, box.width, box.height];
const set = (x, y, w, h) => { box.x = x; box.y = y; box.width = w; box.height = h; };
const at = e => new DOMPoint(e.clientX, e.clientY).matrixTransform(svg.getScreenCTM().inverse());
svg.addEventListener("wheel", e => {
  e.preventDefault();
  const p = at(e), f = e.deltaY < 0 ? 0.8 : 1.25;
  set(p.x - (p.x - box.x) * f, p.y - (p.y - box.y) * f, box.width * f, box.height * f);
}, {passive: false});
let from = null;
svg.addEventListener("pointerdown", e => { from = at(e); svg.setPointerCapture(e.pointerId); });
svg.addEventListener("pointerup", () => { from = null; });
svg.addEventListener("pointermove", e => {
  if (from) { const p = at(e); set(box.x + from.x - p.x, box.y + from.y - p.y, box.width, box.height); }
});
svg.addEventListener("dblclick", () => set(...all));
</script></body></html>
"""


def size(count: float) -> str:
    """Bytes, in binary units."""
    value = float(count)
    unit = "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if value < 1024 or unit == "PiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if value >= 10 or value == int(value) else f"{value:.1f} {unit}"
