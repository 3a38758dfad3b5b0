# SPDX-License-Identifier: MIT OR Apache-2.0
"""Drivers in C under the explorer: tests/mirror.c, right, and wrong in seven ways."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mmu_notifier as mn
from mmu_notifier import trace

pytestmark = pytest.mark.thread_unsafe(reason="there is one scenario at a time in a process")

HERE = Path(__file__).parent
FLAGS = ["-DMMU_NOTIFIER_EXPLORE", "-shared", "-fPIC", "-O2", "-g", "-Wall", "-Wextra", "-Werror"]
CFLAGS = [f"-I{HERE.parent.parent / 'include'}", "-DCONFIG_MMU_NOTIFIER=1"]


def build(tmp_path: Path, *flags: str, source: Path = HERE / "mirror.c") -> str:
    driver = tmp_path / "driver.so"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, *FLAGS, source, "-o", driver, *CFLAGS, *flags], check=True)
    return str(driver)


def test_the_right_driver_passes_every_schedule(tmp_path: Path) -> None:
    result = mn.Scenario.load(build(tmp_path)).explore()
    print(result)
    assert result.violation is None, str(result)
    assert result.exhaustive and result.schedules > 50


@pytest.mark.parametrize(
    ("mistake", "said", "preemptions"),
    [
        ("SET_SEQ_MISSING", "the device has a page that is gone", 1),
        ("SET_SEQ_UNLOCKED", "the device has a page that is gone", 1),
        ("RETRY_IGNORED", "the device has a page that is gone", 1),
        ("RETRY_OUTSIDE_LOCK", "the device has a page that is gone", 1),
        ("REMOVE_IN_CALLBACK", "[DV-7] mmu_interval_notifier_remove", 0),
        ("END_MISSING", "fault waits for the end of a busy period, in read_begin", 0),
        ("SLEEPS_NONBLOCKABLE", "change may sleep inside a callback of a range that is not blockable", 0),
    ],
)
def test_a_wrong_driver_is_found(tmp_path: Path, mistake: str, said: str, preemptions: int) -> None:
    scenario = mn.Scenario.load(build(tmp_path, f"-D{mistake}"))
    result = scenario.explore()
    print(result)
    run = result.violation
    assert run is not None and said in (run.violation or "")
    assert run.preemptions == preemptions
    assert trace.validate(run.trace) == []
    again = scenario.run(run.schedule)
    assert (again.violation, again.trace) == (run.violation, run.trace)


def test_a_deadlock_of_spin_locks_is_found(tmp_path: Path) -> None:
    source = tmp_path / "locks.c"
    source.write_text(
        """
        #include <linux/mmu_notifier.h>
        #include <mmu_notifier/explore.h>
        static spinlock_t one, two;
        static void setup(void) { spin_lock_init(&one); spin_lock_init(&two); }
        static void a(void) { spin_lock(&one); spin_lock(&two); spin_unlock(&two); spin_unlock(&one); }
        static void b(void) { spin_lock(&two); spin_lock(&one); spin_unlock(&one); spin_unlock(&two); }
        static const struct mmu_notifier_scenario_thread threads[] = { { "a", a }, { "b", b }, { NULL, NULL } };
        extern const struct mmu_notifier_scenario mmu_notifier_scenario;
        const struct mmu_notifier_scenario mmu_notifier_scenario = { .setup = setup, .threads = threads };
        """
    )
    run = mn.Scenario.load(build(tmp_path, source=source)).explore().violation
    assert run is not None and run.preemptions == 1
    # Locks are named in the order in which they turn up.
    assert run.violation == "deadlock: a waits for lock 1, held by b; b waits for lock 2, held by a"


def test_a_lock_that_is_not_ours_is_reported_as_such(tmp_path: Path) -> None:
    source = tmp_path / "pthread.c"
    source.write_text(
        """
        #include <linux/mmu_notifier.h>
        #include <mmu_notifier/explore.h>
        #include <pthread.h>
        static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
        static int word;
        static void a(void) { WRITE_ONCE(word, 1); pthread_mutex_lock(&mutex); pthread_mutex_lock(&mutex); }
        static const struct mmu_notifier_scenario_thread threads[] = { { "a", a }, { NULL, NULL } };
        extern const struct mmu_notifier_scenario mmu_notifier_scenario;
        const struct mmu_notifier_scenario mmu_notifier_scenario = { .threads = threads };
        """
    )
    run = mn.Scenario.load(build(tmp_path, "-pthread", source=source)).run(patience=1.0)
    assert "a is blocked outside" in (run.violation or "")


def test_what_is_no_driver_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "empty.c"
    source.write_text("int nothing;\n")
    with pytest.raises(ValueError, match="-DMMU_NOTIFIER_EXPLORE"):
        mn.Scenario.load(build(tmp_path, source=source))
    source.write_text("#include <linux/mmu_notifier.h>\nint f(int *x) { return READ_ONCE(*x); } int f(int *x);\n")
    with pytest.raises(ValueError, match="exports no mmu_notifier_scenario"):
        mn.Scenario.load(build(tmp_path, "-Wno-missing-prototypes", source=source))
    with pytest.raises(OSError):
        mn.Scenario.load(str(tmp_path / "nowhere.so"))


def test_a_bug_in_a_driver_does_not_end_the_process(tmp_path: Path) -> None:
    """And the process that has threads asleep for ever ends as it should."""
    driver = build(tmp_path, "-DREMOVE_IN_CALLBACK")
    program = f"import mmu_notifier as mn; print(mn.Scenario.load({driver!r}).explore().violation.violation)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("change: [DV-7] mmu_interval_notifier_remove")


def test_who_sleeps_for_ever_in_a_walk_is_told_and_nothing_runs_after_that(tmp_path: Path) -> None:
    source = tmp_path / "walk.c"
    source.write_text(
        """
        #include <stdlib.h>
        #include <linux/mmu_notifier.h>
        #include <mmu_notifier/explore.h>
        static spinlock_t lock;
        static struct mm_struct *mm;
        static int start(struct mmu_notifier *sub, const struct mmu_notifier_range *range)
        {
            (void)sub, (void)range;
            spin_lock(&lock);
            spin_unlock(&lock);
            return 0;
        }
        static const struct mmu_notifier_ops ops = { .invalidate_range_start = start };
        static void setup(void)
        {
            struct mmu_notifier *sub = calloc(1, sizeof(*sub));
            sub->ops = &ops;
            mm = mm_alloc();
            spin_lock_init(&lock);
            WARN_ON(mmu_notifier_register(sub, mm));
        }
        static void change(void)
        {
            struct mmu_notifier_range range;
            mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, mm, 0, PAGE_SIZE);
            spin_lock(&lock);       /* the callback wants it */
            mmu_notifier_invalidate_range_start(&range);
            spin_unlock(&lock);
            mmu_notifier_invalidate_range_end(&range);
        }
        static const struct mmu_notifier_scenario_thread threads[] = { { "change", change }, { NULL, NULL } };
        extern const struct mmu_notifier_scenario mmu_notifier_scenario;
        const struct mmu_notifier_scenario mmu_notifier_scenario = { .setup = setup, .threads = threads };
        """
    )
    driver = build(tmp_path, source=source)
    program = f"""
import mmu_notifier as mn
scenario = mn.Scenario.load({driver!r})
print(scenario.explore().violation.violation)
try:
    scenario.run()
except RuntimeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert first.startswith("deadlock: change waits for lock 1, held by itself")
    assert "sleeps for ever inside a callback" in second


def test_a_driver_that_was_compiled_again_is_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    build(tmp_path, "-DRETRY_IGNORED")
    wrong = mn.Scenario.load("driver.so")
    assert wrong.explore().violation is not None
    build(tmp_path)
    assert mn.Scenario.load(Path("driver.so")).explore().violation is None
    assert wrong.explore().violation is not None
