# SPDX-License-Identifier: MIT OR Apache-2.0
"""An address space of a replay over time.

Time runs to the right: seconds where the trace has them, else lines. Addresses run up; what was never mapped nor changed is left
out, and a mapping is as high as the square root of its length, so that a page can be seen beside a gigabyte. Tints say what
is mapped, strong colours what changes. Everything is drawn into a grid of fixed size; where several changes fall into one
cell, the rarest kind is on top.

Below: the events in each column of the grid, by kind; the ranges in flight and the sequence number, with a mark for each busy period;
and for each watched interval its invalidations, of which each is a read that had to be made again (a retry).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from mmu_notifier._event import Event
from mmu_notifier._plot import BLACK, BLUE, ORANGE, PURPLE, VERMILLION, size
from mmu_notifier._replay import Replayed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 1100, 640
"""Cells of the grid."""
_MOST_PIECES = 4000

_LABEL = {"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.8}

# What is mapped: number of the core, name, tint.
_LOOKS = {
    1: ("memory", "#dbe9f6"),
    2: ("heap", "#bfe3d6"),
    3: ("file", "#e4e4e4"),
    4: ("shared memory", "#f3dfee"),
    5: ("made by execve, or unknown", "#f7f1c3"),
    11: ("program text", "#c9c9c9"),
}
_KINDS = {
    Event.UNMAP: VERMILLION,
    Event.CLEAR: BLUE,
    Event.PROTECTION_VMA: ORANGE,
    Event.PROTECTION_PAGE: PURPLE,
}
_TYPES = {
    "line": np.uint64,
    "time": np.uint64,
    "space": np.uint32,
    "pid": np.uint32,
    "start": np.uint64,
    "end": np.uint64,
    "event": np.uint8,
    "seq": np.uint64,
    "active": np.uint64,
    "look": np.uint8,
    "file": np.uint32,
}
_Array = np.ndarray[Any, np.dtype[Any]]
_NO_TIME = np.iinfo(np.uint64).max


def _table(columns: Any) -> dict[str, _Array]:
    return {name: np.frombuffer(data, _TYPES[name]) for name, data in columns.items()}


@dataclass
class _Scale:
    """Addresses on the vertical axis."""

    starts: _Array
    ends: _Array
    # Where each piece begins on the axis, and where the last one ends.
    bottoms: _Array
    breaks: list[int]

    def rows(self, addresses: _Array) -> _Array:
        """The positions of addresses, from 0 to 1."""
        at = np.clip(np.searchsorted(self.starts, addresses, "right").astype(int) - 1, 0, len(self.starts) - 1)
        low, high = self.starts[at], self.ends[at]
        inside = np.clip(addresses, low, high) - low
        share = inside / np.maximum(high - low, 1)
        positions: _Array = self.bottoms[at] + share * (self.bottoms[at + 1] - self.bottoms[at])
        return positions


def _scale(starts: _Array, ends: _Array) -> _Scale:
    """Pieces of the address space that were ever mapped or changed, cut where a mapping begins or ends."""
    page = 4096
    while True:
        low = starts // page * page
        high = np.minimum(ends, _NO_TIME - page) // page * page + np.where(ends % page, page, 0).astype(np.uint64)
        cuts = np.unique(np.concatenate([low, high]))
        if len(cuts) <= _MOST_PIECES:
            break
        page *= 4
    # A piece counts if something covers it.
    cover = np.zeros(len(cuts) + 1, np.int64)
    np.add.at(cover, np.searchsorted(cuts, low), 1)
    np.add.at(cover, np.searchsorted(cuts, high), -1)
    used = np.cumsum(cover)[: len(cuts) - 1] > 0
    first, last = cuts[:-1][used], cuts[1:][used]
    heights = np.sqrt((last - first) / 4096.0)
    heights = np.maximum(heights, heights.sum() / 2500)
    # Room between regions that are far from each other.
    gaps = np.zeros(len(first))
    far = (first[1:] - last[:-1]) > np.uint64(1 << 30)
    gaps[1:][far] = heights.sum() * 0.03
    total = heights.sum() + gaps.sum()
    ends_at = np.cumsum(heights + gaps) / total
    bottoms = np.concatenate([ends_at - heights / total, [1.0]])
    breaks = [0, *(np.flatnonzero(far) + 1).tolist()]
    return _Scale(first, last, bottoms, breaks)


def draw(result: Replayed, space: int | None, title: str | None) -> Figure:
    """The figure."""
    events, paint = _table(result.columns), _table(result.mappings)
    if not events and not paint:
        raise ValueError("there is nothing to draw: the replay was not run with keep=True, or its trace changes nothing")
    space = _busiest(events, paint) if space is None else space
    events, paint = _of(events, space), _of(paint, space)
    if not _length(events) and not _length(paint):
        raise ValueError(f"nothing is known of the address space {space}")
    clock, label, limits = _clock(events, paint)
    starts = np.concatenate([table["start"] for table in (events, paint) if table])
    ends = np.concatenate([table["end"] for table in (events, paint) if table])
    scale = _scale(starts, ends)
    watched = [watch for watch in {watch.bytes: watch for watch in result.watches}.values()]
    lines = _hits(result)

    figure = Figure(figsize=(13, 9.2), layout="constrained")
    ratios = [9, 2, 1.6, *([0.5] * len(watched))]
    top, counts, seq, *lanes = figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios)
    _draw_space(top, events, paint, scale, clock, limits)
    for start, end in (watch.bytes for watch in watched):
        low, high = scale.rows(np.array([start, end], np.uint64))
        top.axhspan(low, high, facecolor="none", edgecolor=BLACK, linewidth=1.2, linestyle="--")
        top.text(limits[1], (low + high) / 2, f" watched: {size(end - start)}\n at {start:#x}", fontsize=8, va="center")
    _draw_counts(counts, events, clock, limits)
    _draw_seq(seq, events, clock, limits)
    for axes, watch in zip(lanes, watched, strict=True):
        _draw_watch(axes, watch.label, lines.get(watch.label, set()), events, clock)
    (lanes[-1] if lanes else seq).set_xlabel(label)
    pids = (events if _length(events) else paint)["pid"]
    shown = f"{_length(events):,} events of address space {space}, pid {pids[0] if len(pids) else '?'}"
    figure.suptitle(title or f"{os.path.basename(result.file)}: {shown}", fontsize=13)
    _legend(figure, events, paint)
    return figure


def _of(table: dict[str, _Array], space: int) -> dict[str, _Array]:
    """The rows of an address space, without the kernel's half."""
    if not table:
        return table
    mine = (table["space"] == space) & (table["start"] < np.uint64(1 << 63))
    return {name: column[mine] for name, column in table.items()}


def _length(table: dict[str, _Array]) -> int:
    return len(table["space"]) if table else 0


def _busiest(events: dict[str, _Array], paint: dict[str, _Array]) -> int:
    spaces, counts = np.unique((events or paint)["space"], return_counts=True)
    return int(spaces[np.argmax(counts)])


def _hits(result: Replayed) -> dict[str, set[int]]:
    """Lines that made a read of a watched interval void, by the label of the watch."""
    found: dict[str, set[int]] = {}
    for watch in result.watches:
        found.setdefault(watch.label, set()).update(watch.lines)
    return found


def _clock(events: dict[str, _Array], paint: dict[str, _Array]) -> tuple[Any, str, tuple[float, float]]:
    """How a table's rows lie on the time axis, its label and its limits."""
    tables = [table for table in (events, paint) if _length(table)]
    timed = all((table["time"] != _NO_TIME).all() for table in tables)
    column = "time" if timed else "line"
    first = min(int(table[column].min()) for table in tables)
    last = max(int(table[column].max()) for table in tables)
    unit = 1e6 if timed and last > first else 1.0
    if not timed or last == first:
        column, unit = "line", 1.0
        first = min(int(table[column].min()) for table in tables)
        last = max(int(table[column].max()) for table in tables)
    base = first if unit > 1 else 0

    def clock(table: dict[str, _Array]) -> _Array:
        positions: _Array = (table[column] - np.uint64(base)) / unit
        return positions

    label = "seconds since the address space came into being" if unit > 1 else "line of the trace"
    low, high = (first - base) / unit, (last - base) / unit
    return clock, label, (low, high + max((high - low) * 0.01, 1e-6 if unit > 1 else 1))


def _columns(positions: _Array, limits: tuple[float, float]) -> _Array:
    share = (positions - limits[0]) / (limits[1] - limits[0])
    columns: _Array = np.clip((share * WIDTH).astype(int), 0, WIDTH - 1)
    return columns


def _cells(table: dict[str, _Array], scale: _Scale) -> tuple[_Array, _Array]:
    """The first row of each range, and one past its last: at least one."""
    low = np.clip((scale.rows(table["start"]) * HEIGHT).round().astype(int), 0, HEIGHT - 1)
    last = np.maximum(table["end"], np.uint64(1)) - np.uint64(1)
    high = np.clip((scale.rows(last) * HEIGHT).round().astype(int), 0, HEIGHT)
    return low, np.maximum(high, low + 1)


def _draw_space(
    axes: Axes, events: dict[str, _Array], paint: dict[str, _Array], scale: _Scale, clock: Any, limits: tuple[float, float]
) -> None:
    image = np.ones((HEIGHT, WIDTH, 4))
    if _length(paint):
        _paint(image, paint, scale, clock, limits)
    if _length(events):
        _strike(image, events, scale, clock, limits)
    axes.imshow(image, origin="lower", aspect="auto", extent=(*limits, 0, 1), interpolation="none")
    ticks: list[float] = []
    labels: list[str] = []
    for at, begin in enumerate(scale.breaks):
        end = (scale.breaks[at + 1] if at + 1 < len(scale.breaks) else len(scale.starts)) - 1
        bottom = float(scale.bottoms[begin])
        top = float(scale.rows(scale.ends[end : end + 1] - np.uint64(1))[0])
        for where, address in ((bottom, scale.starts[begin]), (top, scale.ends[end])):
            if not ticks or where - ticks[-1] > 0.022:
                ticks.append(where)
                labels.append(f"{int(address):#x}")
        if top - bottom > 0.05:
            span = int((scale.ends[begin : end + 1] - scale.starts[begin : end + 1]).sum())
            axes.text(limits[0], (top + bottom) / 2, f" region of {size(span)}", fontsize=8, va="center", color="#333333", bbox=_LABEL)
        if begin:
            axes.axhline(bottom, color="#999999", linewidth=0.6, linestyle=":")
    axes.set_yticks(ticks, labels, fontsize=8, family="monospace")
    axes.set_ylabel("addresses (heights: square roots of bytes)")


def _paint(image: _Array, paint: dict[str, _Array], scale: _Scale, clock: Any, limits: tuple[float, float]) -> None:
    """What is mapped: columns from left to right, each from the one before it."""
    columns = _columns(clock(paint), limits)
    low, high = _cells(paint, scale)
    text = paint["look"] == 3 + 8
    looks = np.where(text, 11, paint["look"] % 8)
    colours = np.ones((16, 4))
    for number, (_, tint) in _LOOKS.items():
        colours[number] = to_rgba(tint)
    now = np.zeros(HEIGHT, np.int64)
    done = 0
    for column, bottom, top, look in zip(columns.tolist(), low.tolist(), high.tolist(), looks.tolist(), strict=True):
        if column > done:
            image[:, done:column] = colours[now][:, None]
            done = column
        now[bottom:top] = look
    image[:, done:] = colours[now][:, None]


def _strike(image: _Array, events: dict[str, _Array], scale: _Scale, clock: Any, limits: tuple[float, float]) -> None:
    """What changes, the most frequent kind first."""
    columns = _columns(clock(events), limits)
    low, high = _cells(events, scale)
    # A few events are drawn wider, so that each can be seen.
    wide = 3 if len(columns) < 400 else 2 if len(columns) < 4000 else 1
    kinds = sorted(_KINDS, key=lambda kind: -int((events["event"] == kind).sum()))
    for kind in kinds:
        mine = events["event"] == kind
        if not mine.any():
            continue
        edges = np.zeros((HEIGHT + 1, WIDTH), np.int32)
        np.add.at(edges, (low[mine], columns[mine]), 1)
        np.add.at(edges, (high[mine], columns[mine]), -1)
        count = np.cumsum(edges, axis=0)[:HEIGHT]
        for shift in range(1, wide):
            count[:, shift:] = np.maximum(count[:, shift:], np.cumsum(edges, axis=0)[:HEIGHT, :-shift])
        share = np.where(count > 0, np.clip(0.8 + 0.1 * np.log2(np.maximum(count, 1)), 0, 1), 0)[..., None]
        image[..., :3] = image[..., :3] * (1 - share) + np.array(to_rgba(_KINDS[kind])[:3]) * share


def _draw_counts(axes: Axes, events: dict[str, _Array], clock: Any, limits: tuple[float, float]) -> None:
    bins = np.linspace(*limits, 221)
    below = np.zeros(220)
    for kind, colour in _KINDS.items() if _length(events) else ():
        count, _ = np.histogram(clock(events)[events["event"] == kind], bins)
        axes.bar(bins[:-1], count, width=np.diff(bins), bottom=below, align="edge", color=colour, linewidth=0)
        below += count
    axes.set_ylabel("events", fontsize=9)
    axes.set_ylim(0, max(1.0, float(below.max())) * 1.08)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_seq(axes: Axes, events: dict[str, _Array], clock: Any, limits: tuple[float, float]) -> None:
    """Sequence number, ranges in flight, busy periods."""
    if not _length(events):
        return
    at = clock(events)
    columns = _columns(at, limits)
    most = np.zeros(WIDTH)
    np.maximum.at(most, columns, events["active"].astype(float))
    grid = np.linspace(*limits, WIDTH, endpoint=False)
    axes.vlines(grid[most > 0], 0, most[most > 0], color="#999999", linewidth=0.8, rasterized=True)
    axes.set_ylim(0, max(2.2, float(most.max()) * 1.25))
    axes.set_ylabel("ranges\nin flight", fontsize=9)
    busy = np.unique(columns[events["seq"] % 2 == 1])
    axes.plot(grid[busy], np.full(len(busy), axes.get_ylim()[1] * 0.9), "v", color=VERMILLION, markersize=4, rasterized=len(busy) > 500)
    periods = len(np.unique(events["seq"][events["seq"] % 2 == 1]))
    axes.set_title(f"▼ {periods:,} busy periods; black line: sequence number", loc="left", fontsize=8, color="#333333", pad=3)
    right = axes.twinx()
    last = np.flatnonzero(np.diff(columns, append=WIDTH))
    right.step(at[last], events["seq"][last].astype(float), where="post", color=BLACK, linewidth=1)
    right.set_ylabel("seq", fontsize=9)
    right.ticklabel_format(useOffset=False, style="plain")
    right.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    for one in (axes, right):
        one.spines["top"].set_visible(False)


def _draw_watch(axes: Axes, label: str, lines: set[int], events: dict[str, _Array], clock: Any) -> None:
    mine = np.isin(events["line"], np.fromiter(lines, np.uint64, len(lines))) if lines and _length(events) else None
    at = clock(events)[mine] if mine is not None else np.zeros(0)
    axes.plot(at, np.zeros(len(at)), "|", color=BLACK, markersize=12, rasterized=len(at) > 500)
    axes.set_yticks([0], [f"retries of {label}"], fontsize=8)
    axes.set_ylim(-1, 1)
    axes.text(1.005, 0.5, f"{len(at):,}", transform=axes.transAxes, fontsize=8, va="center")
    axes.spines[["top", "right"]].set_visible(False)


def _legend(figure: Figure, events: dict[str, _Array], paint: dict[str, _Array]) -> None:
    handles = []
    for kind, colour in _KINDS.items():
        count = int((events["event"] == kind).sum()) if _length(events) else 0
        if count:
            handles.append(Patch(facecolor=colour, label=f"{kind.name} ({count:,})"))
    if _length(paint):
        shown = {11 if look == 11 else look % 8 for look in np.unique(paint["look"]).tolist()}
        handles += [
            Patch(facecolor=tint, edgecolor="#999999", linewidth=0.5, label=name)
            for number, (name, tint) in _LOOKS.items()
            if number in shown
        ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=9, frameon=False)
