# SPDX-License-Identifier: MIT OR Apache-2.0
"""Scenarios: threads, steps, blocking and waking, invariants, traces."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import mmu_notifier as mn
from mmu_notifier import trace

pytestmark = pytest.mark.thread_unsafe(reason="there is one scenario at a time in a process")


class Quiet(mn.IntervalNotifier):
    def invalidate(self, range: mn.Range, cur_seq: int) -> bool:
        self.set_seq(cur_seq)
        return True


def reader_and_range() -> tuple[mn.Scenario, mn.Mm]:
    s = mn.Scenario()
    mm = s.watch(mn.Mm())
    quiet = mm.insert(Quiet(), 0, 0x1000)

    def change() -> Iterator[None]:
        with mm.invalidate(0, 0x1000):
            yield

    s.thread(quiet.read_begin, name="reader")
    s.thread(change)
    s.on_close(mm.close)
    s.on_close(quiet.remove)
    return s, mm


def test_step_by_step_it_is_known_who_is_blocked() -> None:
    s, mm = reader_and_range()
    with s:
        assert s.runnable == ["reader", "change"]
        assert s.status("change") == "new"
        assert s.step("change") == "ready: invalidate_start mm 1"
        assert s.step("change") == "ready: set_seq interval 1"
        assert s.step("change") == "ready: point"
        assert mm.active == 1
        assert s.step("reader") == "ready: read_begin interval 1"
        assert s.step("reader") == "waits for the end of a busy period, in read_begin"
        assert s.runnable == ["change"]
        with pytest.raises(RuntimeError, match="reader cannot run"):
            s.step("reader")
        with pytest.raises(RuntimeError, match="no thread is named writer"):
            s.step("writer")
        assert s.step("change") == "ready: invalidate_end mm 1"
        assert s.step("change") == "over"
        assert s.runnable == ["reader"]
        assert s.step("reader") == "over"
        steps = s.trace
    assert trace.validate(steps) == []
    slept = [one for one in steps if one["thread"] == "reader"]
    assert [one["state"] for one in slept] == ["running", "blocked", "woken"]
    assert [one["op"] for one in slept] == ["begin", "read_begin", "read_begin"]
    assert (slept[1]["seq"], slept[1]["active"]) == (3, 1)
    assert (slept[2]["seq"], slept[2]["active"]) == (4, 0)


def test_a_schedule_is_followed_or_refused() -> None:
    def setup(s: mn.Scenario) -> None:
        def two() -> Iterator[None]:
            yield

        s.thread(two, name="a")
        s.thread(two, name="b")

    scenario = mn.Scenario(setup)
    run = scenario.run(["b", "a", "b", "a"])
    assert run.schedule == ["b", "a", "b", "a"] and run.violation is None
    assert scenario.run(["b"]).schedule == ["b", "b", "a", "a"]
    refused = scenario.run(["b", "b", "b"])
    assert refused.violation == "step 2 of the schedule: b cannot run"
    assert "step 1 of the schedule: c" in (scenario.run(["a", "c"]).violation or "")


def test_the_same_schedule_gives_the_same_trace() -> None:
    def setup(s: mn.Scenario) -> None:
        mm = s.watch(mn.Mm())
        lock = s.lock("table")
        quiet = mm.insert(Quiet(), 0, 0x1000)

        def change() -> None:
            with mm.write_lock(), mm.invalidate(0, 0x1000), lock:
                mn.note("the page is gone")

        s.thread(change)
        s.thread(quiet.read_begin, name="read")
        s.on_close(mm.close)
        s.on_close(quiet.remove)

    first = mn.Scenario(setup).run()
    assert first.violation is None and "the page is gone" in str(first)
    for _ in range(5):
        again = mn.Scenario(setup).run(first.schedule)
        assert (again.trace, str(again)) == (first.trace, str(first))


def test_the_worker_is_a_thread_of_its_own() -> None:
    freed: list[str] = []

    class Counted(mn.Notifier):
        def free_notifier(self) -> None:
            freed.append(threading.current_thread().name)

    def setup(s: mn.Scenario) -> None:
        freed.clear()
        mm = mn.Mm()
        notifier = Counted.get(mm)
        s.thread(notifier.put, name="put")
        s.thread(mn.synchronize, name="synchronize")
        s.at_end(lambda: len(freed) == 1 or f"{len(freed)} are freed")
        s.on_close(mm.close)

    run = mn.Scenario(setup).run()
    assert run.violation is None, str(run)
    assert "worker" in run.schedule and run.threads[0] == "worker"
    assert mn.Scenario(setup).explore(1).exhaustive


def test_a_deadlock_says_who_waits_for_whom() -> None:
    def setup(s: mn.Scenario) -> None:
        one, two = s.lock("one"), s.lock("two")

        def take(first: mn.ScenarioLock, second: mn.ScenarioLock) -> None:
            with first, second:
                pass

        s.thread(take, one, two, name="a")
        s.thread(take, two, one, name="b")

    run = mn.Scenario(setup).explore().violation
    assert run is not None
    assert run.violation == "deadlock: a waits for two, held by b; b waits for one, held by a"
    assert run.preemptions == 1 and not run.leaked


def test_a_lock_that_is_taken_twice_waits_for_itself() -> None:
    def setup(s: mn.Scenario) -> None:
        lock = s.lock("l")

        def twice() -> None:
            with lock, lock:
                pass

        s.thread(twice, name="a")

    assert mn.Scenario(setup).run().violation == "deadlock: a waits for l, held by itself"


def test_locks_outside_of_a_scenario() -> None:
    lock = mn.ScenarioLock("l")
    with lock:
        assert lock.locked() and not lock.acquire(blocking=False)
        with pytest.raises(RuntimeError, match="held"):
            lock.acquire()
    with pytest.raises(RuntimeError, match="not held"):
        lock.release()
    mn.point()
    mn.spin()
    mn.note("nobody hears it")


def test_locks_that_are_not_ours_are_reported_as_such() -> None:
    lock = threading.Lock()
    lock.acquire()

    def setup(s: mn.Scenario) -> None:
        s.thread(lock.acquire, name="a")

    run = mn.Scenario(setup).run(patience=1.0)
    assert (run.violation or "").startswith("a is blocked outside: no schedule point within 1 s")
    lock.release()


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (lambda: False, "<lambda> does not hold"),
        (lambda: "the page is stale", "the page is stale"),
        (lambda: ["one", "two"], "one; two"),
        (lambda: {"one"}, "one"),
        (lambda: (text for text in ("one", "two")), "one; two"),
        (lambda: 1 // 0, "ZeroDivisionError: integer division or modulo by zero"),
    ],
)
def test_an_invariant_says_what_is_wrong(check: object, said: str) -> None:
    def setup(s: mn.Scenario) -> None:
        s.thread(lambda: None, name="a")
        s.invariant(check)  # type: ignore[arg-type]

    run = mn.Scenario(setup).run()
    assert run.violation == said and run.schedule == ["a"]


def test_an_assertion_is_an_invariant() -> None:
    def setup(s: mn.Scenario) -> None:
        s.thread(lambda: None, name="a")

        @s.invariant
        def holds() -> None:
            assert not s, "it does not hold"

    assert "it does not hold" in (mn.Scenario(setup).run().violation or "")


def test_exceptions_are_violations() -> None:
    def setup(s: mn.Scenario) -> None:
        def fails() -> None:
            raise ValueError("no such page")

        s.thread(fails)

    run = mn.Scenario(setup).run()
    assert run.violation == "fails failed: ValueError: no such page"
    assert isinstance(run.exception, ValueError)


def test_who_spins_lets_others_go_on() -> None:
    def setup(s: mn.Scenario) -> None:
        done: list[int] = []

        def wait() -> None:
            while not done:
                mn.spin()

        s.thread(wait)
        s.thread(done.append, 1, name="work")

    assert mn.Scenario(setup).run().violation is None

    def never(s: mn.Scenario) -> None:
        def wait() -> None:
            while True:
                mn.spin()

        s.thread(wait)

    assert mn.Scenario(never).run(max_steps=50).violation == "the run does not end within 50 steps"


def test_one_at_a_time() -> None:
    first, _ = reader_and_range()
    with first:
        first.step("change")
        with pytest.raises(RuntimeError, match="another scenario is running"):
            mn.Scenario(lambda s: None).run()
    with pytest.raises(RuntimeError, match="can be run once"):
        first.step("change")
    assert mn.Scenario(lambda s: None).run().violation is None


def test_a_session_ends_when_nobody_refers_to_it() -> None:
    def begun() -> None:
        s = mn.Scenario()
        s.thread(mn.point, name="a")
        assert s.step("a") == "ready: point"

    begun()
    assert mn.Scenario(lambda s: None).run().violation is None
    kept = mn.Scenario()
    kept.thread(mn.point, name="a")
    kept.step("a")
    with pytest.raises(RuntimeError, match=r"one that was stepped runs until close\(\)"):
        mn.Scenario(lambda s: None).run()
    kept.close()


@pytest.mark.parametrize("name", ["", "a\0b", "a\nb"])
def test_names_can_be_printed(name: str) -> None:
    with pytest.raises(ValueError, match="not printable"):
        mn.Scenario().thread(mn.point, name=name)


def test_names_are_one_threads() -> None:
    s = mn.Scenario()
    s.thread(lambda: None, name="a")
    for name in ("a", "worker"):
        with pytest.raises(ValueError, match="another thread is named"):
            s.thread(lambda: None, name=name)


def test_without_a_setup_it_runs_once() -> None:
    s = mn.Scenario()
    s.thread(lambda: None, name="a")
    assert s.run().schedule == ["a"]
    with pytest.raises(RuntimeError, match="can be run once"):
        s.run()


async def asynchronous() -> None:
    raise AssertionError("nobody runs it")


@pytest.mark.parametrize(
    ("thread", "name", "said"),
    [
        (asynchronous, None, "asynchronous is async"),
        (3, None, "a thread is a function, not int"),
        ((None for _ in range(1)), None, "a thread is a function, not generator"),
        (len, 3, "a thread's name is a str, not int"),
    ],
)
def test_what_is_no_thread(thread: Any, name: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        mn.Scenario().thread(thread, name=name)


def test_what_a_thread_leaves_to_be_awaited_is_not_passed_over() -> None:
    waiting = asynchronous()
    run = mn.Scenario(lambda s: s.thread(lambda: waiting, name="a")).run()
    assert "nobody runs what is async" in (run.violation or "")
    waiting.close()


@pytest.mark.parametrize(
    ("limit", "value"), [("preemptions", -1), ("max_schedules", -1), ("max_steps", 1 << 64), ("patience", -1.0)]
)
def test_limits_that_are_none(limit: str, value: Any) -> None:
    with pytest.raises(ValueError, match=limit):
        mn.Scenario(lambda s: None).explore(**{limit: value})


def test_a_schedule_is_no_text() -> None:
    with pytest.raises(TypeError, match="a list of names"):
        mn.Scenario(lambda s: None).run("a")


def test_what_the_state_function_raises_ends_the_search() -> None:
    """Without a number no state can be told from another."""
    runs = 0

    def setup(s: mn.Scenario) -> None:
        nonlocal runs
        runs += 1
        s.thread(mn.point, name="a")
        s.thread(mn.point, name="b")
        s.state(lambda: [])

    with pytest.raises(TypeError, match="unhashable"):
        mn.Scenario(setup).explore()
    assert runs == 1
    with pytest.raises(TypeError, match="unhashable"):
        mn.Scenario(setup).explore(max_schedules=1)


@pytest.mark.parametrize("where", ["invariant", "at_end", "state", "on_close"])
def test_an_interrupt_ends_the_search(where: str) -> None:
    runs = 0

    def interrupted() -> None:
        raise KeyboardInterrupt

    def setup(s: mn.Scenario) -> None:
        nonlocal runs
        runs += 1
        s.thread(mn.point, name="a")
        s.thread(mn.point, name="b")
        getattr(s, where)(interrupted)

    with pytest.raises(KeyboardInterrupt):
        mn.Scenario(setup).explore()
    assert runs == 1
    assert mn.Scenario(lambda s: s.thread(mn.point, name="a")).run().violation is None
