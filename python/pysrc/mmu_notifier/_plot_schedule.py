# SPDX-License-Identifier: MIT OR Apache-2.0
"""The schedule of a scenario as swim lanes: one lane for each thread, one column for each step.

A box is a step: what was done, and with what. A hatched bar is a sleep, from the step in which it began to the one that woke it,
with its reason. Thin bars below the boxes are what lasts: ranges in flight, and reads between read_begin and read_retry.
Above the lanes: the sequence number after each step, on grey while it is odd, and how many ranges are in flight. What broke the
contract has a thick red frame, and its sentence stands on top. A thin arrow goes from whoever woke a thread to that thread.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch, Rectangle

from mmu_notifier._plot import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILLION
from mmu_notifier.trace import Step

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Columns that are drawn with their words; a longer schedule keeps the last of them.
_STEPS = 120

RED = "#C00000"

# Starts and ends of what lasts.
_RANGE_BEGINS = ("invalidate_start", "invalidate_range_start", "invalidate_range_start_nonblock", "invalidate_start_nonblock")
_RANGE_ENDS = ("invalidate_end", "invalidate_range_end")


@dataclass
class _Span:
    thread: str
    begin: int
    end: int | None
    words: str
    kind: str


def _args(step: Step) -> dict[str, Any]:
    return step.get("args") or {}


def _colour(step: Step) -> str:
    op = step["op"]
    if op.startswith("call"):
        return PURPLE
    if op in _RANGE_BEGINS or op in _RANGE_ENDS or "invalidate" in op:
        return VERMILLION
    if "read_" in op or "retry" in op or "set_seq" in op:
        return BLUE
    if "lock" in op:
        return ORANGE
    return GREEN


def _value(name: str, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and (name in ("start", "end", "address") or value >= 4096):
        return f"{value:#x}"
    return str(value)


def _words(step: Step) -> str:
    """What a box says."""
    args = dict(_args(step))
    parts = []
    if "start" in args and "end" in args:
        parts.append(f"[{_value('start', args.pop('start'))}, {_value('end', args.pop('end'))})")
    parts += [_value(name, value) if isinstance(value, str) else f"{name} {_value(name, value)}" for name, value in args.items()]
    lines = [step["op"].replace("invalidate_range_", "range ").replace("invalidate_", "range "), *parts]
    if step.get("result") is not None:
        lines.append(f"→ {_value('', step['result'])}")
    if step["state"] == "running" and step.get("reason"):
        lines.append(f"({step.get('reason')})")
    return "\n".join(textwrap.shorten(line, 22, placeholder="…") for line in lines[:5])


def _tip(step: Step) -> str:
    args = ", ".join(f"{name}={_value(name, value)}" for name, value in _args(step).items())
    text = f"step {step['step']}, {step['thread']}: {step['op']}({args})"
    for name in ("result", "state", "reason", "seq", "active", "violation"):
        if step.get(name) is not None:
            text += f"\n{name}: {step.get(name)}"
    return text


def _sleeps(trace: list[Step]) -> list[_Span]:
    """From each blocked step to the next step of its thread."""
    spans: list[_Span] = []
    asleep: dict[str, _Span] = {}
    for at, step in enumerate(trace):
        if (span := asleep.pop(step["thread"], None)) is not None:
            span.end = at
        if step["state"] == "blocked":
            span = _Span(step["thread"], at, None, step.get("reason") or step["op"], "sleep")
            asleep[step["thread"]] = span
            spans.append(span)
    return spans


def _lasting(trace: list[Step]) -> list[_Span]:
    """Ranges from start to end, reads from read_begin to read_retry."""
    spans: list[_Span] = []
    open_: dict[tuple[str, object], _Span] = {}
    for at, step in enumerate(trace):
        args, op, thread = _args(step), step["op"], step["thread"]
        if step["state"] == "woken" and op != "read_begin":
            continue
        key: tuple[str, object]
        if op in _RANGE_BEGINS:
            key = ("range", args.get("range", thread))
            words = f"{args.get('event', 'range')}"
            open_[key] = _Span(thread, at, None, words, "range")
            spans.append(open_[key])
        elif op in _RANGE_ENDS:
            if (span := open_.pop(("range", args.get("range", thread)), None)) is not None:
                span.end = at
        elif op == "read_begin" and step["state"] != "blocked":
            key = ("read", (thread, args.get("interval")))
            open_[key] = _Span(thread, at, None, "read", "read")
            spans.append(open_[key])
        elif op == "read_retry" and (span := open_.pop(("read", (thread, args.get("interval"))), None)) is not None:
            span.end = at
            if step.get("result"):
                span.words = "read: retry"
    return spans


def draw(trace: list[Step], title: str | None) -> tuple[Figure, dict[str, str]]:
    """The figure, and what its parts say when one points at them."""
    if not trace:
        raise ValueError("a trace without steps has no picture")
    left_out = max(0, len(trace) - _STEPS)
    trace = trace[left_out:]
    threads = list(dict.fromkeys(step["thread"] for step in trace))
    columns, lanes = len(trace), len(threads)
    figure = Figure(figsize=(max(9.0, 2.2 + 1.12 * columns), 2.9 + 1.35 * lanes), layout="constrained")
    above, axes = figure.subplots(2, 1, sharex=True, height_ratios=[0.7, lanes])
    row = {thread: lanes - 1 - at for at, thread in enumerate(threads)}
    tips: dict[str, str] = {}
    _draw_seq(above, trace)
    for span in _sleeps(trace):
        _draw_sleep(axes, span, row, columns)
    _draw_wakes(axes, trace, row)
    _draw_lasting(axes, _lasting(trace), row, columns)
    for at, step in enumerate(trace):
        _draw_step(axes, at, step, row, tips)
    axes.set_yticks([row[thread] for thread in threads], threads, fontsize=11, fontweight="bold")
    axes.set_ylim(-0.62, lanes - 0.38)
    axes.set_xlim(-0.6, columns - 0.4)
    axes.set_xticks(range(columns), [str(step["step"]) for step in trace])
    axes.set_xlabel("step of the schedule" + (f" (the first {left_out:,} are left out)" if left_out else ""))
    for lane in range(lanes - 1):
        axes.axhline(lane + 0.5, color="#dddddd", linewidth=0.8, zorder=0)
    violations = [f"step {step['step']}, {step['thread']}: {step.get('violation')}" for step in trace if step.get("violation")]
    figure.suptitle(title or f"{lanes} threads, {columns} steps", fontsize=13)
    if violations:
        wrapped = "\n".join(textwrap.fill(one, int(9 * figure.get_figwidth())) for one in violations[:5])
        above.set_title("✗ " + wrapped, fontsize=11, color=RED, fontweight="bold")
    _legend(figure, trace)
    return figure, tips


def _draw_seq(axes: Axes, trace: list[Step]) -> None:
    """The sequence number and the ranges in flight, after each step."""
    last: tuple[int | None, int | None] = (None, None)
    for at, step in enumerate(trace):
        seq, active = step.get("seq"), step.get("active")
        if seq is not None and seq % 2:
            axes.axvspan(at - 0.5, at + 0.5, color="#cccccc", linewidth=0)
        if seq is not None or active is not None:
            bold = "bold" if (seq, active) != last else "normal"
            axes.text(at, 0.7, "" if seq is None else str(seq), ha="center", va="center", fontsize=9, fontweight=bold)
            axes.text(at, 0.25, "" if active is None else str(active), ha="center", va="center", fontsize=9, fontweight=bold)
            last = (seq, active)
    axes.set_ylim(0, 1)
    axes.set_yticks([0.25, 0.7], ["ranges in flight", "seq (grey: odd, busy)"], fontsize=9)
    axes.tick_params(axis="both", length=0, labelbottom=False)
    axes.spines[:].set_visible(False)


def _draw_sleep(axes: Axes, span: _Span, row: dict[str, int], columns: int) -> None:
    end = columns - 0.45 if span.end is None else span.end - 0.44
    y = row[span.thread]
    begin = span.begin + 0.44
    if end - begin > 0.05:
        axes.add_patch(
            Rectangle((begin, y - 0.16), end - begin, 0.42, facecolor="#eeeeee", edgecolor=GREY, hatch="////", linewidth=0.8, zorder=1)
        )
    if end - begin > 0.6:
        width = max(10, int(14 * (end - begin)))
        words = textwrap.shorten(("never woken: " if span.end is None else "") + span.words, 2 * width, placeholder="…")
        axes.text(
            (begin + end) / 2,
            y + 0.05,
            textwrap.fill(words, width),
            ha="center",
            va="center",
            fontsize=8,
            zorder=4,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.9},
        )


def _wakers(trace: list[Step]) -> list[tuple[int, int]]:
    """Wakes, with the step that caused each: the last of the thread that the reason names; or else, of a lock, the last unlock of
    it during the sleep, and otherwise the last end of a range."""
    found = []
    for span in _sleeps(trace):
        if span.end is None or trace[span.end]["state"] != "woken":
            continue
        words = re.findall(r"[\w.-]+", trace[span.end].get("reason") or "")
        others = [at for at in range(span.begin + 1, span.end) if trace[at]["thread"] != span.thread]
        if "lock" in trace[span.begin]["op"]:
            args = _args(trace[span.begin])
            ends = [at for at in others if "unlock" in trace[at]["op"] and _args(trace[at]) == args]
        else:
            ends = [at for at in others if trace[at]["op"] in _RANGE_ENDS]
        named = [at for at in others if trace[at]["thread"] in words]
        causes = named or ends
        if causes:
            found.append((causes[-1], span.end))
    return found


def _draw_wakes(axes: Axes, trace: list[Step], row: dict[str, int]) -> None:
    for cause, at in _wakers(trace):
        begin, end = row[trace[cause]["thread"]], row[trace[at]["thread"]]
        out, into = (0.3, -0.2) if end > begin else (-0.2, 0.3)
        arrow = {"arrowstyle": "->", "color": GREY, "linewidth": 1.3}
        axes.annotate("", (at, end + into), (cause, begin + out), arrowprops=arrow, zorder=2)


def _draw_lasting(axes: Axes, spans: list[_Span], row: dict[str, int], columns: int) -> None:
    for span in spans:
        end = columns - 0.45 if span.end is None else span.end + 0.4
        y = row[span.thread] - (0.36 if span.kind == "range" else 0.48)
        colour = VERMILLION if span.kind == "range" else BLUE
        axes.add_patch(Rectangle((span.begin - 0.4, y), end - span.begin + 0.4, 0.06, facecolor=colour, linewidth=0, zorder=2))
        words = span.words
        if span.end is None:
            words += ": no end" if span.kind == "range" else ": no retry"
        axes.text(span.begin - 0.4, y + 0.07, words, fontsize=7.5, color=colour, ha="left", va="bottom", zorder=4)


def _draw_step(axes: Axes, at: int, step: Step, row: dict[str, int], tips: dict[str, str]) -> None:
    y = row[step["thread"]]
    broken = bool(step.get("violation"))
    asleep = step["state"] == "blocked"
    colour = _colour(step)
    box = FancyBboxPatch(
        (at - 0.42, y - 0.2),
        0.84,
        0.5,
        boxstyle="round,pad=0,rounding_size=0.06",
        facecolor=_tint(colour, 0.35 if broken else 0.18),
        edgecolor=RED if broken else colour,
        linewidth=3.5 if broken else 1.2,
        linestyle="--" if asleep else "-",
        zorder=3,
    )
    name = f"step-{step['step']}"
    box.set_gid(name)
    tips[name] = _tip(step)
    axes.add_patch(box)
    words = _words(step)
    if asleep:
        words += "\n(sleeps)"
    elif step["state"] == "woken":
        words = "woken:\n" + words
    axes.text(at, y + 0.05, words, ha="center", va="center", fontsize=7.5, zorder=5, linespacing=1.15)
    if broken:
        axes.text(at, y + 0.34, "✗", ha="center", va="bottom", fontsize=14, color=RED, fontweight="bold", zorder=5)


def _tint(colour: str, share: float) -> tuple[float, float, float]:
    """A colour on white."""
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return (1 - share * (1 - red), 1 - share * (1 - green), 1 - share * (1 - blue))


def _legend(figure: Figure, trace: list[Step]) -> None:
    kinds = {
        VERMILLION: "ranges",
        PURPLE: "callbacks",
        BLUE: "reads, set_seq",
        ORANGE: "locks",
        GREEN: "other steps",
    }
    used = [colour for colour in kinds if any(_colour(step) == colour for step in trace)]
    handles = [Patch(facecolor=_tint(colour, 0.18), edgecolor=colour, label=kinds[colour]) for colour in used]
    if any(step["state"] == "blocked" for step in trace):
        handles.append(Patch(facecolor="#eeeeee", edgecolor=GREY, hatch="////", label="asleep"))
    if any(step.get("violation") for step in trace):
        handles.append(Patch(facecolor="white", edgecolor=RED, linewidth=3, label="breaks the contract"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9, frameon=False)
