# SPDX-License-Identifier: MIT OR Apache-2.0
"""``python -m mmu_notifier``: records programs and replays what was recorded."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence

from mmu_notifier._record import record
from mmu_notifier._replay import Replayed, load_driver, replay


def _interval(text: str) -> tuple[int, int]:
    """START:LEN, in bytes, decimal or hexadecimal."""
    start, colon, length = text.partition(":")
    try:
        if not colon:
            raise ValueError
        found = int(start, 0), int(length, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not START:LEN, in bytes, for instance 0x7f0000000000:0x1000") from None
    if found[0] < 0 or found[1] <= 0 or sum(found) > 1 << 64:
        raise argparse.ArgumentTypeError(f"{text!r} is no interval: LEN is above 0, and START + LEN at most 2**64")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mmu_notifier", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    one = commands.add_parser("replay", help="replay a trace of strace -f -e trace=%%memory,%%process")
    one.add_argument("file", help="the trace")
    one.add_argument(
        "--interval", action="append", default=[], type=_interval, metavar="START:LEN", help="watch these bytes; several are allowed"
    )
    one.add_argument("--pid", type=int, help="the process whose address spaces are watched (default: the first)")
    one.add_argument("--driver", metavar="FILE.py", help="a file with a function attach(mm, process) that subscribes")
    one.add_argument("--plot", metavar="FILE", help="write a picture: .html, .svg or .png")
    one.add_argument("--space", type=int, help="the address space of the picture (default: that with the most events)")
    one.add_argument("--quiet", action="store_true", help="no progress bar")
    one.set_defaults(run=_replay)

    two = commands.add_parser("record", help="run a program under strace, and record it")
    two.add_argument("-o", "--output", default="trace.strace", metavar="FILE", help="the trace (default: %(default)s)")
    two.add_argument(
        "--delay", type=float, default=50, metavar="MS", help="how long processes stand still for a copy of their maps (default: %(default)s)"
    )
    two.add_argument("--no-maps", action="store_true", help="make no copies of /proc/PID/maps")
    two.add_argument("program", nargs=argparse.REMAINDER, metavar="-- PROGRAM ARGS")
    two.set_defaults(run=_record)
    return parser


@contextlib.contextmanager
def _bar(path: str, quiet: bool) -> Iterator[Callable[[int, int], object] | None]:
    """A progress bar on stderr, if that is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    total = os.path.getsize(path)
    try:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        yield lambda lines, bytes_: print(f"\r{bytes_ / max(total, 1):4.0%}, {lines:,} lines", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        return
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TextColumn("{task.fields[lines]:,} lines"), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(os.path.basename(path), total=total, lines=0)
        yield lambda lines, bytes_: bar.update(task, completed=bytes_, lines=lines)


def size(count: int) -> str:
    """Bytes, in binary units."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if value < 1024 or unit == "PiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def report(result: Replayed) -> Iterator[str]:
    """The summary of a replay, line by line."""
    rate = result.total / result.seconds if result.seconds else 0
    yield f"{result.file}: {result.lines:,} lines, {result.calls:,} calls, {result.total:,} events in {result.seconds:.2f} s ({rate:,.0f}/s)"
    yield f"{result.processes:,} processes, {result.spaces:,} address spaces, {result.forks:,} forks, {result.execs:,} execves"
    yield ""
    yield f"{'event':<18}{'pairs':>12}{'bytes':>14}"
    for name, (count, total) in sorted(result.events.items(), key=lambda item: -item[1][0]):
        yield f"{name:<18}{count:>12,}{size(total):>14}"
    if result.hottest:
        yield ""
        yield "hottest ranges"
        for start, end, count in result.hottest:
            yield f"  [{start:#x}, {end:#x})  {size(end - start):>10}  {count:,} times"
    yield ""
    yield f"busy periods: {result.busy_periods:,}; retries: {result.retries:,}"
    for label in dict.fromkeys(watch.label for watch in result.watches):
        mine = [watch for watch in result.watches if watch.label == label]
        hits, reads, retries = (sum(getattr(watch, name) for watch in mine) for name in ("hits", "reads", "retries"))
        yield f"  interval {label} in {len(mine):,} address spaces: {hits:,} invalidations, {reads:,} reads, {retries:,} retries"
    if result.compared:
        yield f"compared with /proc/PID/maps: {result.compared:,} processes, {len(result.differences):,} differences"
        yield from (f"  {one}" for one in result.differences[:10])
    for name, count in result.not_followed.items():
        yield f"not followed: {count:,} times {name}"
    if result.unknown_lengths:
        yield f"attached segments of unknown length, taken for one page: {result.unknown_lengths:,} (record shmget as well)"
    if result.unreadable:
        yield f"lines that could not be read: {result.unreadable:,}"
        yield from (f"  line {number}: {_printable(text)}" for number, text in result.unread)


def _printable(text: str) -> str:
    """Without what a terminal would take for an order."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def _replay(options: argparse.Namespace) -> int:
    attach = load_driver(options.driver) if options.driver else None
    if options.plot:
        from mmu_notifier._plot import check

        check(options.plot)
    with _bar(options.file, options.quiet) as progress:
        result = replay(
            options.file,
            intervals=options.interval,
            pid=options.pid,
            attach=attach,
            every=attach is not None,
            keep=bool(options.plot),
            progress=progress,
        )
    for line in report(result):
        print(line)
    if options.interval and not result.watches and result.processes:
        print(f"mmu_notifier: nothing was watched: the trace tells of no program that process {options.pid} begins", file=sys.stderr)
    if result.unreadable and not result.calls:
        raise ValueError(f"{options.file}: no line is what strace -f -e trace=%memory,%process prints")
    if options.plot:
        from mmu_notifier._plot import plot

        plot(result, options.plot, space=options.space)
        print(f"picture: {options.plot}")
    return 0


def _record(options: argparse.Namespace) -> int:
    program = options.program[1:] if options.program[:1] == ["--"] else options.program
    done = record(program, options.output, delay=options.delay / 1000, copies=not options.no_maps)
    print(f"{done.trace}: {done.lines:,} lines, {done.copies:,} copies of /proc/PID/maps in {done.maps}", file=sys.stderr)
    for missed in done.missed:
        print(f"missed: {missed}", file=sys.stderr)
    return done.status if done.status >= 0 else 128 - done.status


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except BrokenPipeError:
        # Nobody reads the summary any more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, ValueError, ImportError) as error:
        print(f"mmu_notifier: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
