# SPDX-License-Identifier: MIT OR Apache-2.0
"""Replays and recordings of real programs."""

import bz2
import gzip
import lzma
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import mmu_notifier as mn
from mmu_notifier.__main__ import main, report

# CPython 3.11 with four threads that map, resize, drop and unmap memory, and a fork.
THREADS = str(Path(__file__).parents[2] / "tests" / "replay" / "threads.strace")
HEAD = '7 execve("/bin/x", ["x"], 0x7) = 0\n'
MAP = "7 mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x10000\n"
UNMAP = "7 munmap(0x10000, 4096) = 0\n"
EXIT = "7 exit_group(0) = ?\n"


def write(folder: Path, text: str) -> str:
    path = folder / "trace"
    path.write_text(text)
    return str(path)


def test_a_real_trace_makes_events_of_every_kind() -> None:
    result = mn.replay(THREADS)
    assert (result.lines, result.unread) == (272, [])
    assert set(result.events) == {"UNMAP", "CLEAR", "PROTECTION_VMA", "PROTECTION_PAGE"}
    assert result.total == sum(count for count, _ in result.events.values()) > 100
    assert (result.processes, result.forks) == (2, 1)
    assert result.not_followed == {}


def test_an_interval_is_called_for_its_changes_only() -> None:
    start, end, count = mn.replay(THREADS).hottest[0]
    result = mn.replay(THREADS, intervals=[(start, end - start), (1 << 62, 4096)])
    assert result.busy_periods > 0
    hits = {watch.bytes[0]: watch.hits for watch in result.watches if watch.hits}
    assert set(hits) == {start}
    assert hits[start] >= count
    for watch in result.watches:
        assert watch.reads == watch.retries + 1
    assert 0 < result.retries <= hits[start]


def test_watches_follow_one_process(tmp_path: Path) -> None:
    other = (MAP + UNMAP).replace("7 m", "8 m")
    clone = "7 clone(child_stack=NULL, flags=SIGCHLD) = 8\n"
    trace = write(tmp_path, HEAD + MAP + clone + other + UNMAP + EXIT)
    first = mn.replay(trace, intervals=[(0x10000, 4096)])
    # The fork write-protects it, then it is unmapped.
    assert [watch.hits for watch in first.watches] == [0, 2]
    assert mn.replay(trace, intervals=[(0x10000, 4096)], pid=99).watches == []


def test_a_driver_hears_of_everything(tmp_path: Path) -> None:
    heard: list[tuple[str, int, int]] = []

    class Listener(mn.Notifier):
        def invalidate_range_start(self, range: mn.Range) -> None:
            heard.append((mn.Event(range.event).name, range.start, range.end))

        def release(self, mm: mn.Mm) -> None:
            heard.append(("release", 0, 0))

        def changed(self, start: int, end: int, event: mn.Event, call: str) -> None:
            heard.append((call, start, end))

        def close(self) -> None:
            heard.append(("close", 0, 0))

    processes: list[mn.Process] = []

    def attach(mm: mn.Mm, process: mn.Process) -> Listener:
        processes.append(process)
        return mm.register(Listener())

    mn.replay(write(tmp_path, MAP + UNMAP + EXIT), attach=attach, every=True)
    assert heard == [("UNMAP", 0x10000, 0x11000), ("munmap", 0x10000, 0x11000), ("release", 0, 0), ("close", 0, 0)]
    assert processes == [mn.Process(pid=7, space=0, parent=None, line=1)]


def test_an_exception_in_a_callback_ends_the_replay(tmp_path: Path) -> None:
    class Broken(mn.IntervalNotifier):
        def invalidate(self, range: mn.Range, cur_seq: int) -> bool:
            raise LookupError("lost")

    kept: list[Broken] = []

    def attach(mm: mn.Mm, process: mn.Process) -> None:
        kept.append(mm.insert(Broken(), 0x10000, 4096))

    with pytest.raises(LookupError, match="lost") as caught:
        mn.replay(write(tmp_path, MAP + UNMAP * 3 + EXIT), attach=attach)
    assert any("invalidate" in note for note in caught.value.__notes__)
    with pytest.raises(ZeroDivisionError):
        mn.replay(write(tmp_path, MAP), attach=lambda mm, process: 1 // 0)


def test_what_cannot_be_read_is_reported_by_line(tmp_path: Path) -> None:
    result = mn.replay(write(tmp_path, MAP + "what is this\n" + UNMAP + "7 munmap(x) = 0\n" + "7 io_setup(1, [0x7]) = 0\n"))
    assert [line for line, _ in result.unread] == [2, 4]
    text = "\n".join(report(result))
    assert "lines that could not be read: 2" in text
    assert "line 2: what is this" in text
    assert "not followed: 1 times io_setup" in text


def test_a_wrong_copy_of_the_maps_is_a_difference(tmp_path: Path) -> None:
    trace = write(tmp_path, HEAD + MAP + EXIT)
    maps = "10000-11000 rw-p 00000000 00:00 0 "
    (tmp_path / "trace.maps").write_text(
        '{"line": 1, "pid": 7, "when": "exec", "maps": ""}\n{"line": 3, "pid": 7, "when": "exit", "maps": "%s\\n"}\n' % maps
    )
    result = mn.replay(trace)
    assert result.compared == 1
    assert [(one.start, one.end, one.kernel) for one in result.differences] == [(0x11000, 0x12000, "nothing")]
    (tmp_path / "trace.maps").write_text("{}\nnonsense\n")
    with pytest.raises(ValueError, match="trace.maps:2"):
        mn.replay(trace)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    driver = tmp_path / "driver.py"
    driver.write_text(
        "import mmu_notifier as mn\n"
        "class Count(mn.Notifier):\n"
        "    retries = 0\n"
        "    def invalidate_range_start(self, range):\n"
        "        Count.retries += 1\n"
        "def attach(mm, process):\n"
        "    return mm.register(Count())\n"
    )
    trace = write(tmp_path, MAP + UNMAP + EXIT)
    assert main(["replay", trace, "--interval", "0x10000:0x1000", "--driver", str(driver)]) == 0
    out = capsys.readouterr().out
    assert "3 lines, 3 calls, 1 events" in out
    assert "UNMAP" in out and "4.0 KiB" in out
    assert "interval 0x10000:0x1000 in 1 address spaces: 1 invalidations, 2 reads, 1 retries" in out
    assert "busy periods: 1; retries: 2" in out
    assert main(["replay", str(tmp_path / "missing")]) == 1
    assert "missing" in capsys.readouterr().err
    driver.write_text("")
    assert main(["replay", trace, "--driver", str(driver)]) == 1
    assert "no function attach" in capsys.readouterr().err


@pytest.mark.parametrize("interval", ["x", "1", "1:", "0x10:0", "-1:5", "0xffffffffffffffff:2"])
def test_intervals_that_are_none(interval: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["replay", THREADS, f"--interval={interval}"])
    assert "--interval" in capsys.readouterr().err


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    mn.replay(THREADS, progress=lambda lines, size: told.append((lines, size)))
    assert told[-1] == (272, Path(THREADS).stat().st_size)


def can_trace() -> str:
    """Why strace cannot be used here; empty if it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    run = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    return "" if run.returncode == 0 else f"strace cannot trace here: {run.stderr.strip()}"


PYTHON = """
import mmap, os, subprocess, threading
def work():
    for pages in range(1, 20):
        memory = mmap.mmap(-1, pages * 4096)
        memory.resize(3 * pages * 4096)
        memory.madvise(mmap.MADV_DONTNEED)
        memory.close()
        bytearray(pages * 100_000)
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
subprocess.run(["ls"], stdout=subprocess.DEVNULL)
if os.fork() == 0:
    work()
    os._exit(0)
os.wait()
"""
GIT = "git init -q r && cd r && seq 2000 >f && git add f && git -c user.name=a -c user.email=b commit -qm c && git repack -adq && git fsck"
SQL = "create table t(a); with recursive c(x) as (select 1 union all select x+1 from c where x<20000) insert into t select hex(x) from c; vacuum;"
PROGRAMS = {
    "python": [sys.executable, "-c", PYTHON],
    "git": ["sh", "-c", GIT],
    "sqlite3": ["sqlite3", "x.db", SQL],
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_recorded_program_ends_with_the_mappings_of_the_kernel(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why := can_trace():
        pytest.skip(why)
    if name != "python" and shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    monkeypatch.chdir(tmp_path)
    # A copy that came too late on a busy machine is said so; then the processes stand still for longer.
    for delay in (0.1, 0.5, 2.0):
        done = mn.record(PROGRAMS[name], "out", delay=delay)
        shutil.rmtree("r", ignore_errors=True)
        Path("x.db").unlink(missing_ok=True)
        if not done.missed:
            break
    assert done.status == 0
    assert done.missed == []
    result = mn.replay("out")
    assert result.unread == []
    assert result.lines == done.lines
    # Every process that calls exit_group: the program, and its children.
    assert result.compared == Path("out").read_text().count(" exit_group(")
    assert result.compared >= {"python": 3, "git": 4, "sqlite3": 1}[name]
    assert [str(one) for one in result.differences] == []


def test_record_says_what_it_cannot_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="strace is not installed"):
        mn.record(["true"], tmp_path / "out")


def test_record_passes_on_how_the_program_ended(tmp_path: Path) -> None:
    if why := can_trace():
        pytest.skip(why)
    assert mn.record(["sh", "-c", "exit 3"], tmp_path / "out", delay=0.01).status == 3
    assert main(["record", "-o", str(tmp_path / "out"), "--no-maps", "--", "false"]) == 1
    assert "execve" in (tmp_path / "out").read_text()


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_what_is_compressed_is_refused(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    trace = tmp_path / "trace"
    trace.write_bytes(pack(Path(THREADS).read_bytes()))
    with pytest.raises(ValueError, match="is compressed: unpack it with"):
        mn.replay(trace)


def test_a_byte_order_mark_and_ends_of_lines_do_not_matter(tmp_path: Path) -> None:
    text = HEAD + MAP + UNMAP + EXIT
    wanted = mn.replay(write(tmp_path, text))
    assert (wanted.lines, wanted.execs, wanted.unread) == (4, 1, [])
    for encoding, newline in (("utf-8-sig", "\n"), ("utf-8-sig", "\r\n"), ("utf-8", "\r\n")):
        trace = tmp_path / "trace"
        trace.write_text(text, encoding, newline=newline)
        result = mn.replay(trace)
        assert (result.lines, result.execs, result.unread, result.events) == (4, 1, [], wanted.events)


def test_a_folder_is_no_trace(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        mn.replay(tmp_path)


def test_utf_16_is_refused(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text(HEAD + MAP, "utf-16")
    with pytest.raises(ValueError, match="is in UTF-16: convert it with"):
        mn.replay(trace)


def test_a_file_of_something_else_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", write(tmp_path, "root:x:0\n\x1b[2Jhello\n")]) == 1
    said = capsys.readouterr()
    assert "no line is what strace" in said.err
    assert "\x1b" not in said.out and "\\x1b[2Jhello" in said.out


def test_a_process_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = write(tmp_path, HEAD + MAP + UNMAP + EXIT)
    assert main(["replay", trace, "--interval", "0x10000:4096", "--pid", "99"]) == 0
    assert "process 99" in capsys.readouterr().err


def test_pids_with_names(tmp_path: Path) -> None:
    named = (HEAD + MAP + UNMAP + EXIT).replace("7 ", "7<make -j> ")
    result = mn.replay(write(tmp_path, named))
    assert (result.unread, result.total, result.processes) == ([], 1, 1)


def test_nothing_is_recorded_that_cannot_be_written(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    with pytest.raises(FileNotFoundError, match="nowhere"):
        mn.record(["touch", str(ran)], tmp_path / "nowhere" / "trace")
    with pytest.raises(ValueError, match="delay"):
        mn.record(["touch", str(ran)], tmp_path / "trace", delay=-1)
    assert not ran.exists()
