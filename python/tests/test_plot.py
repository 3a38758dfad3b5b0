# SPDX-License-Identifier: MIT OR Apache-2.0
"""Pictures: what they say, and how large they are."""

import sys
from pathlib import Path

import pytest

import mmu_notifier as mn
from mmu_notifier.__main__ import main
from mmu_notifier.trace import Trace, dump, load, step, validate

THREADS = str(Path(__file__).parents[2] / "tests" / "replay" / "threads.strace")
LIMIT = 5 * 1024 * 1024


def scenario() -> Trace:
    return [
        step(0, "fault", "read_begin", {"interval": "shadow"}, result=2, seq=2, active=0),
        step(1, "unmap", "invalidate_start", {"start": 0x1000, "end": 0x3000, "event": "UNMAP"}, seq=3, active=1),
        step(2, "other", "read_begin", {"interval": "shadow"}, state="blocked", reason="busy: [0x1000, 0x3000)", seq=3, active=1),
        step(3, "fault", "map", {"address": 0x2000}, violation="4.3-3: mapped <without> read_retry", seq=3, active=1),
        step(4, "unmap", "invalidate_end", seq=4, active=0),
        step(5, "other", "read_begin", {"interval": "shadow"}, state="woken", reason="by unmap", result=4, seq=4, active=0),
    ]


def test_a_schedule_explains_a_violation(tmp_path: Path) -> None:
    trace = scenario()
    assert validate(trace) == []
    mn.plot(trace, tmp_path / "x.svg")
    svg = (tmp_path / "x.svg").read_text()
    for words in ("fault", "unmap", "other", "busy: [0x1000, 0x3000)", "step 3, fault: 4.3-3: mapped &lt;without&gt; read_retry"):
        assert words in svg, words
    # What one reads when one points at a step.
    assert '<g id="step-3"><title>step 3, fault: map(address=0x2000)' in svg
    assert svg.count("<title>step ") == len(trace)
    right = [one for one in scenario() if one["step"] != 3]
    mn.plot(right, tmp_path / "y.svg")
    assert "breaks the contract" in svg
    assert "breaks the contract" not in (tmp_path / "y.svg").read_text()


def test_a_long_schedule_keeps_its_end(tmp_path: Path) -> None:
    long = [step(number, f"t{number % 3}", f"op{number}") for number in range(500)]
    mn.plot(long, tmp_path / "x.svg")
    svg = (tmp_path / "x.svg").read_text()
    assert "op499" in svg and "op1<" not in svg
    assert "the first 380 are left out" in svg
    assert len(svg) < LIMIT


def test_a_replay_shows_every_kind_of_event(tmp_path: Path) -> None:
    start, end, _ = mn.replay(THREADS).hottest[0]
    result = mn.replay(THREADS, intervals=[(start, end - start)], keep=True)
    mn.plot(result, tmp_path / "x.html", title="a <title>")
    page = (tmp_path / "x.html").read_text()
    assert "<title>a &lt;title&gt;</title>" in page and "<script>" in page
    assert f"retries of {start:#x}" in page
    for kind, (count, _) in result.events.items():
        assert kind in page
        if result.spaces == 1:
            assert f"{kind} ({count:,})" in page
    assert "seconds" not in page, "this trace has no times"


def test_the_legend_counts_the_events_of_the_address_space(tmp_path: Path) -> None:
    lines = ["munmap(0x10000, 4096) = 0", "madvise(0x20000, 4096, MADV_DONTNEED) = 0", "munmap(0x30000, 4096) = 0"]
    (tmp_path / "trace").write_text("\n".join(f"7 100000000{at}.000000 {line}" for at, line in enumerate(lines)))
    result = mn.replay(tmp_path / "trace", keep=True)
    mn.plot(result, tmp_path / "x.svg")
    svg = (tmp_path / "x.svg").read_text()
    assert "UNMAP (2)" in svg and "CLEAR (1)" in svg
    assert "seconds since" in svg
    with pytest.raises(ValueError, match="address space 5"):
        mn.plot(result, space=5)


def test_a_picture_of_100_000_events_is_small(tmp_path: Path) -> None:
    trace = tmp_path / "dense"
    with open(trace, "w") as file:
        for number in range(100_000):
            at = 0x7F0000000000 + number * 7919 % 5000 * 0x3000
            kind = number % 3
            if kind == 0:
                file.write(f"mmap({at:#x}, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0) = {at:#x}\n")
            elif kind == 1:
                file.write(f"mprotect({at:#x}, 4096, PROT_READ) = 0\n")
            else:
                file.write(f"munmap({at:#x}, 8192) = 0\n")
    result = mn.replay(trace, keep=True, intervals=[(0x7F0000000000, 1 << 24)])
    assert result.total == 100_000
    for ending in ("svg", "html", "png"):
        path = tmp_path / f"x.{ending}"
        mn.plot(result, path)
        assert 10_000 < path.stat().st_size < LIMIT, ending
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_command_line_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.png"
    assert main(["replay", THREADS, "--plot", str(path)]) == 0
    assert f"picture: {path}" in capsys.readouterr().out
    assert path.read_bytes().startswith(b"\x89PNG")
    assert main(["replay", THREADS, "--plot", "x.jpeg"]) == 1
    assert ".html, .svg or .png" in capsys.readouterr().err


def test_a_notebook_shows_it() -> None:
    picture = getattr(mn.plot(scenario()), "_repr_png_")()
    assert picture.startswith(b"\x89PNG") and len(picture) > 10_000


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="without steps"):
        mn.plot([])
    with pytest.raises(ValueError, match="keep=True"):
        mn.plot(mn.replay(THREADS))
    with pytest.raises(TypeError, match=r"as run\.trace, not of Run"):
        mn.plot(mn.Scenario(lambda s: None).run())  # type: ignore[arg-type]


def test_without_matplotlib_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'mmu_notifier\[plot\]'"):
        mn.plot(scenario())


def test_traces_are_plain_data(tmp_path: Path) -> None:
    trace = scenario()
    dump(trace, str(tmp_path / "trace"))
    assert load(str(tmp_path / "trace")) == trace
    (tmp_path / "trace").write_text("{}\n[]\n")
    with pytest.raises(ValueError, match=":2: no step"):
        load(str(tmp_path / "trace"))


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"step": 7}, "its number is 7"),
        ({"time": -1}, "time falls"),
        ({"state": "lost"}, "the state 'lost'"),
        ({"state": "woken", "thread": "x"}, "x wakes, but did not sleep"),
        ({"thread": "other"}, "other goes on, but sleeps"),
        ({"op": None}, "no op"),
    ],
)
def test_validate_finds_what_is_wrong(change: dict[str, object], wrong: str) -> None:
    trace = scenario()
    trace[3].update(change)  # type: ignore[typeddict-item]
    assert any(wrong in one for one in validate(trace)), validate(trace)
