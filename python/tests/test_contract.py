# SPDX-License-Identifier: MIT OR Apache-2.0
"""What each call does, by the rules of docs/spec/SPEC.md."""

import copy
import errno
import pickle
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest

import mmu_notifier as mn

PAGE = 0x1000


class Log(mn.Notifier):
    """Notes what it is told; `acts` are done inside callbacks."""

    def __init__(self, name: str = "", log: list[Any] | None = None, **acts: Callable[[], Any]) -> None:
        self.name = name
        self.log: list[Any] = [] if log is None else log
        self.acts = acts

    def told(self, op: str, *what: Any) -> Any:
        self.log.append((self.name, op, *what))
        return self.acts[op]() if op in self.acts else None

    def release(self, mm: mn.Mm) -> None:
        self.told("release")

    def invalidate_range_start(self, range: mn.Range) -> Any:
        return self.told("start", range.start, range.end, range.event, range.blockable)

    def invalidate_range_end(self, range: mn.Range) -> None:
        self.told("end")


class Young(mn.Notifier):
    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.log: list[Any] = []

    def clear_flush_young(self, mm: mn.Mm, start: int, end: int) -> Any:
        self.log.append((mm, start, end))
        return self.answer

    def clear_young(self, mm: mn.Mm, start: int, end: int) -> Any:
        return self.answer

    def test_young(self, mm: mn.Mm, address: int) -> Any:
        return self.answer

    def change_pte(self, mm: mn.Mm, address: int, pte: int) -> None:
        self.log.append((mm, address, pte))


class Tlb(mn.Notifier):
    def __init__(self) -> None:
        self.log: list[Any] = []

    def arch_invalidate_secondary_tlbs(self, mm: mn.Mm, start: int, end: int) -> None:
        self.log.append((mm, start, end))


class Interval(mn.IntervalNotifier):
    def __init__(self, act: Callable[[], Any] = lambda: True) -> None:
        self.act = act
        self.log: list[Any] = []

    def invalidate(self, range: mn.Range, cur_seq: int) -> Any:
        self.set_seq(cur_seq)
        self.log.append((range.start, range.end, cur_seq))
        return self.act()


def in_thread(act: Callable[[], Any]) -> None:
    thread = threading.Thread(target=act)
    thread.start()
    thread.join()


# --------------------------------------------------------------------------------------------------------------- Mm


def test_ml_1_a_new_address_space() -> None:
    mm = mn.Mm()
    assert (mm.users, mm.references, mm.seq, mm.active, mm.closed) == (1, 1, 2, 0, False)
    assert mm == mm and mm != mn.Mm() and hash(mm) == hash(mm)
    assert mm != "mm"
    assert repr(mm) == f"<Mm {mm.id}>"


def test_the_process_has_one() -> None:
    with mn.Mm.current() as one, mn.Mm.current() as other:
        assert one == other and one is not other


def test_ml_4_a_closed_one_goes_on_but_registers_nothing() -> None:
    mm = mn.Mm()
    log = mm.register(Log())
    mm.close()
    mm.close()
    assert (mm.users, mm.closed) == (0, True)
    assert log.log == [("", "release")]
    with mm.invalidate(0, PAGE):
        pass
    with pytest.raises(ValueError, match="closed"):
        mm.register(Log())
    with pytest.raises(ValueError, match="closed"):
        mm.insert(Interval(), 0, PAGE)
    log.unregister()


def test_only_ints_that_fit_are_addresses() -> None:
    mm = mn.Mm()
    for wrong in (-1, 2**64):
        with pytest.raises(OverflowError):
            mm.invalidate(wrong, PAGE)
    with pytest.raises(TypeError):
        mm.invalidate(0.5, PAGE)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        mm.register(object())  # type: ignore[type-var]


# --------------------------------------------------------------------------------------------------------- notifiers


def test_hs_3_newest_first_and_re_1_the_same_way_back() -> None:
    mm, log = mn.Mm(), list[Any]()
    kept = [mm.register(Log(name, log)) for name in "ab"]
    with mm.read_lock(), mm.invalidate(PAGE, 2 * PAGE, mn.Event.UNMAP) as range:
        assert range.event is mn.Event.UNMAP and range.mm is mm
        assert PAGE in range and 2 * PAGE not in range
    told = ("start", PAGE, 2 * PAGE, mn.Event.UNMAP, True)
    assert log == [("b", *told), ("a", *told), ("b", "end"), ("a", "end")]
    del kept


def test_only_what_the_class_overrides_is_installed() -> None:
    class Refuses(mn.Notifier):
        def invalidate_range_start(self, range: mn.Range) -> bool:
            return range.blockable

    class RefusesAndEnds(Refuses):
        def invalidate_range_end(self, range: mn.Range) -> None:
            pass

    mm = mn.Mm()
    with mm.register(Refuses()), pytest.raises(mn.BlockingError):
        mm.invalidate(0, PAGE, blockable=False).begin()
    # HS-5: worse where there is an end.
    with mm.register(RefusesAndEnds()), pytest.warns(mn.MisuseWarning) as warned, pytest.raises(mn.BlockingError):
        mm.invalidate(0, PAGE, blockable=False).begin()
    assert [getattr(one.message, "rule") for one in warned] == ["HS-5"]


@pytest.mark.parametrize(("answer", "code"), [(False, errno.EAGAIN), (-errno.EAGAIN, errno.EAGAIN)])
def test_hs_8_a_refusal_owes_no_end(answer: object, code: int) -> None:
    class Refuses(mn.Notifier):
        def invalidate_range_start(self, range: mn.Range) -> Any:
            return answer

    mm = mn.Mm()
    mm.insert(Interval(), 0, PAGE)
    mm.register(Refuses())
    with pytest.raises(BlockingIOError) as raised:
        with mm.invalidate(0, PAGE, blockable=False):
            raise AssertionError("it was refused")
    assert (raised.value.errno, mm.active) == (code, 0)


@pytest.mark.parametrize("answer", [None, 0, True])
def test_what_agrees(answer: object) -> None:
    class Agrees(mn.Notifier):
        def invalidate_range_start(self, range: mn.Range) -> Any:
            return answer

    mm = mn.Mm()
    mm.register(Agrees())
    with mm.invalidate(0, PAGE, blockable=False) as range:
        assert not range.blockable


def test_hs_5_other_refusals_are_warned_of() -> None:
    class Odd(mn.Notifier):
        answer = -errno.EPERM

        def invalidate_range_start(self, range: mn.Range) -> Any:
            return self.answer

    mm = mn.Mm()
    mm.register(Odd())
    with pytest.warns(mn.MisuseWarning, match="HS-5"), pytest.raises(OSError) as raised:
        mm.invalidate(0, PAGE, blockable=False).begin()
    assert raised.value.errno == errno.EPERM
    # What is no errno, even what has no opposite.
    for odd in (5, -(1 << 31)):
        Odd.answer = odd
        with pytest.warns(mn.MisuseWarning, match="HS-5"), pytest.raises(OSError) as raised:
            mm.invalidate(0, PAGE, blockable=False).begin()
        assert raised.value.errno == min(abs(odd), (1 << 31) - 1)
    # Blockable: warned of, and not obeyed.
    with pytest.warns(mn.MisuseWarning, match="HS-5"), mm.invalidate(0, PAGE):
        pass


def test_a_warning_that_is_an_error_ends_the_range() -> None:
    mm = mn.Mm()
    mm.insert(Interval(lambda: False), 0, PAGE)
    with pytest.raises(mn.MisuseWarning, match="RS-5") as raised:  # -W error
        mm.invalidate(0, PAGE).begin()
    assert (raised.value.rule, raised.value.callback) == ("RS-5", "invalidate")
    assert mm.active == 0


def test_yg_1_and_yg_2_accessed_bits() -> None:
    mm = mn.Mm()
    one, two = mm.register(Young(1)), mm.register(Young(6))
    assert mm.clear_flush_young(0, PAGE) == 7
    assert mm.clear_young(0, PAGE) == 7
    assert mm.test_young(PAGE) == 6
    assert one.log == two.log == [(mm, 0, PAGE)]
    mm.change_pte(PAGE, 0x25)
    assert one.log[1:] == [(mm, PAGE, 0x25)]
    two.answer = None
    assert mm.test_young(PAGE) == 1
    two.answer = "yes"
    with pytest.raises(TypeError) as raised:
        mm.test_young(PAGE)
    assert raised.value.__notes__ == ["in the callback test_young"]


def test_rg_2_secondary_tlbs_exclude_range_ops() -> None:
    class Both(Tlb):
        def invalidate_range_end(self, range: mn.Range) -> None:
            pass

    mm = mn.Mm()
    tlb = mm.register(Tlb())
    mm.arch_invalidate_secondary_tlbs(0, PAGE)
    assert tlb.log == [(mm, 0, PAGE)]
    both = Both()
    with pytest.raises(mn.MisuseError) as raised:
        mm.register(both)
    assert (raised.value.rule, raised.value.errno) == ("RG-2", errno.EINVAL)
    assert not both.registered


def test_exceptions_are_pickled_and_copied_whole() -> None:
    with pytest.raises(mn.MisuseError) as caught:
        mn.IntervalNotifier().read_begin()
    error = caught.value
    error.add_note("a note")
    warning = mn.MisuseWarning("text", "RS-5", "function", "invalidate", 11)
    for one in (error, warning):
        for again in (pickle.loads(pickle.dumps(one)), copy.copy(one), copy.deepcopy(one)):
            assert type(again) is type(one)
            assert (str(again), vars(again)) == (str(one), vars(one))
    assert (error.rule, error.function) == ("RB-1", "mmu_interval_read_begin")


class Odd(mn.IntervalNotifier):
    """Answers something."""

    answer: object = None

    def invalidate(self, range: mn.Range, cur_seq: int) -> bool | None:
        self.set_seq(cur_seq)
        return self.answer  # type: ignore[return-value]


def test_invalidate_answers_a_bool_or_none() -> None:
    class Later(mn.IntervalNotifier):
        async def invalidate(self, range: mn.Range, cur_seq: int) -> bool:  # type: ignore[override]
            raise AssertionError("never runs")

    mm = mn.Mm()
    odd = mm.insert(Odd(), 0x1000, 0x1000)

    def refused() -> bool:
        try:
            with mm.read_lock(), mm.invalidate(0x1000, 0x2000, blockable=False):
                return False
        except mn.BlockingError:
            return True

    for odd.answer, wanted in ((None, False), (True, False), (1, False), (False, True), (0, True)):
        assert refused() == wanted
    for odd.answer in ("yes", [], 1.5):
        with pytest.raises(TypeError, match="integer") as caught:
            refused()
        assert caught.value.__notes__ == ["in the callback invalidate"]
    odd.remove()
    with mm.insert(Later(), 0x1000, 0x1000), pytest.raises(TypeError, match="coroutine"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        refused()
    assert mm.active == 0


def test_dv_9_twice() -> None:
    mm, log = mn.Mm(), Log()
    with pytest.raises(mn.MisuseError, match="DV-9"):
        log.unregister()
    mm.register(log)
    for where in (mm, mn.Mm()):
        with pytest.raises(mn.MisuseError, match="DV-9"):
            where.register(log)
    log.unregister()
    assert not log.registered
    with pytest.raises(mn.MisuseError, match="DV-9"):
        log.unregister()
    mm.register(log)
    log.put()
    with pytest.raises(mn.MisuseError, match="GP-5"):
        log.put()


def test_gp_1_get_shares_and_gp_7_the_last_put_frees() -> None:
    freed: list[str] = []

    class Shared(mn.Notifier):
        made = 0

        @classmethod
        def alloc_notifier(cls, mm: mn.Mm) -> "Shared":
            cls.made += 1
            return cls()

        def free_notifier(self) -> None:
            freed.append(threading.current_thread().name)

    class Other(Shared):
        pass

    one, two = mn.Mm(), mn.Mm()
    first = Shared.get(one)
    assert Shared.get(one) is first and Shared.get(two) is not first
    assert Other.get(one) is not first
    assert (Shared.made, Other.made, one.references) == (2, 1 + 2, 3)
    first.put()
    mn.synchronize()
    assert first.registered and freed == []
    first.put()
    mn.synchronize()
    assert not first.registered and len(freed) == 1
    assert freed[0] != threading.current_thread().name
    assert Shared.get(one) is not first, "a new one"


def test_gp_3_what_alloc_notifier_raises() -> None:
    class Fails(mn.Notifier):
        @classmethod
        def alloc_notifier(cls, mm: mn.Mm) -> "Fails":
            raise LookupError("no")

    class Wrong(mn.Notifier):
        @classmethod
        def alloc_notifier(cls, mm: mn.Mm) -> Any:
            return 5

    mm = mn.Mm()
    with pytest.raises(LookupError, match="no"):
        Fails.get(mm)
    with pytest.raises(TypeError, match="int"):
        Wrong.get(mm)
    assert mm.references == 1
    with mm.write_lock():
        pass


# --------------------------------------------------------------------------------------------------------- intervals


def test_golden_5_numbers_of_an_interval() -> None:
    mm = mn.Mm()
    a = mm.insert(Interval(), PAGE, PAGE)
    assert (a.start, a.last, a.seq, a.inserted, a.mm) == (PAGE, 2 * PAGE - 1, 1, True, mm)
    assert a.read_begin() == 1 and not a.read_retry(1)
    with mm.invalidate(PAGE, 2 * PAGE):
        assert (mm.seq, mm.active) == (3, 1)
        assert a.read_retry(1) and a.check_retry(1)
        b = mm.insert(Interval(), PAGE, PAGE)
        with mm.invalidate(PAGE, 2 * PAGE):
            assert mm.active == 2
        assert b.log == [], "deferred (RS-7)"
    assert (mm.seq, mm.active) == (4, 0)
    assert a.log == [(PAGE, 2 * PAGE, 3)] * 2
    assert b.read_begin() == 3
    b.remove()
    a.remove()
    assert mm.references == 1


def test_ii_4_what_cannot_be_inserted() -> None:
    mm = mn.Mm()
    interval = Interval()
    for start, length in ((PAGE, 0), (2**64 - PAGE, PAGE + 1)):
        with pytest.raises(OverflowError):
            mm.insert(interval, start, length)
    assert not interval.inserted
    assert mm.insert(interval, 2**64 - PAGE, PAGE).last == 2**64 - 1
    with pytest.raises(mn.MisuseError, match="DV-9"):
        mm.insert(interval, 0, PAGE)


def test_rb_1_what_is_not_inserted() -> None:
    interval = Interval()
    uses: list[Callable[[], object]] = [
        interval.read_begin,
        lambda: interval.read_retry(1),
        lambda: interval.check_retry(1),
        lambda: interval.set_seq(1),
        lambda: interval.start,
        lambda: interval.last,
        lambda: interval.seq,
        lambda: interval.mm,
    ]
    for use in uses:
        with pytest.raises(mn.MisuseError, match="RB-1.*is not inserted"):
            use()
    with pytest.raises(mn.MisuseError) as raised:
        interval.read_retry(1)
    assert raised.value.function == "mmu_interval_read_retry"
    with pytest.raises(mn.MisuseError, match="DV-9"):
        interval.remove()


def test_rs_4_the_right_most_refuses() -> None:
    mm = mn.Mm()
    left, right = mm.insert(Interval(), 0, PAGE), mm.insert(Interval(lambda: False), PAGE, PAGE)
    log = mm.register(Log())
    with pytest.raises(mn.BlockingError):
        mm.invalidate(0, 2 * PAGE, blockable=False).begin()
    assert (len(left.log), len(right.log), log.log) == (1, 1, [])
    assert (mm.seq, mm.active) == (4, 0)


def test_rl_1_the_end_of_the_address_space() -> None:
    mm = mn.Mm()
    events: list[object] = []

    class Last(mn.IntervalNotifier):
        def invalidate(self, range: mn.Range, cur_seq: int) -> None:
            self.set_seq(cur_seq)
            events.append((range.start, range.end, range.event))

    last = mm.insert(Last(), PAGE, PAGE)
    mm.close()
    assert events == [(0, 2**64 - 1, mn.Event.RELEASE)]
    assert last.inserted
    last.remove()


def test_owners_and_events_are_numbers() -> None:
    mm = mn.Mm()
    seen: list[object] = []

    class Owner(mn.IntervalNotifier):
        def invalidate(self, range: mn.Range, cur_seq: int) -> None:
            seen.append((range.event, range.owner))

    mm.insert(Owner(), 0, PAGE)
    with mm.invalidate(0, PAGE, mn.Event.MIGRATE, owner=7), mm.invalidate(0, PAGE, 99):
        pass
    assert seen == [(mn.Event.MIGRATE, 7), (99, 0)]


def test_rb_3_and_ir_6_read_begin_and_remove_wait_for_the_end() -> None:
    mm = mn.Mm()
    # Two, as whoever comes late finds the second one removed.
    interval, other = mm.insert(Interval(), 0, PAGE), mm.insert(Interval(), 0, PAGE)
    order: list[str] = []
    invalidation = mm.invalidate(0, PAGE)
    invalidation.begin()

    def remove() -> None:
        other.remove()
        order.append("removed")

    threads = [
        threading.Thread(target=lambda: order.append(f"read {interval.read_begin()}")),
        threading.Thread(target=remove),
    ]
    threads[0].start()
    threads[0].join(0.02)
    threads[1].start()
    threads[1].join(0.02)
    assert all(thread.is_alive() for thread in threads)
    order.append("end")
    in_thread(invalidation.end)
    for thread in threads:
        thread.join()
    assert order[0] == "end" and sorted(order[1:]) == ["read 3", "removed"]


def test_dv_8_an_end_without_a_beginning() -> None:
    invalidation = mn.Mm().invalidate(0, PAGE)
    with pytest.raises(mn.MisuseError, match="DV-8"):
        invalidation.end()
    with invalidation, pytest.raises(RuntimeError, match="begun"):
        invalidation.begin()


# -------------------------------------------------------------------------------------------- callbacks that go wrong


def test_an_exception_reaches_the_caller_once_everybody_was_told() -> None:
    def fail() -> None:
        raise ZeroDivisionError("in a callback")

    mm, log = mn.Mm(), list[Any]()
    last = mm.register(Log("last", log))
    other = mm.register(Log("other", log, start=fail))
    first = mm.register(Log("first", log, start=fail, end=fail))
    with pytest.raises(ZeroDivisionError) as raised:
        mm.invalidate(0, PAGE).begin()
    notes = raised.value.__notes__
    assert notes[0] == "in the callback invalidate_range_start"
    assert any("also raised" in note for note in notes[1:])
    assert [op for _, op, *_ in log] == ["start"] * 3 + ["end"] * 3, "and the range was ended"
    assert [name for name, *_ in log] == ["first", "other", "last"] * 2
    del last, other, first


def test_an_exception_of_the_worker_goes_to_the_unraisable_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    seen: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: seen.append(args.exc_value))

    class Fails(mn.Notifier):
        def free_notifier(self) -> None:
            raise LookupError("no")

    Fails.get(mn.Mm()).put()
    mn.synchronize()
    assert [type(one) for one in seen] == [LookupError]


def dv_7(act: Callable[[], object]) -> str | None:
    """The callback that a self-wait names."""
    with pytest.raises(mn.MisuseError) as raised:
        act()
    assert raised.value.rule == "DV-7"
    return raised.value.callback


def test_dv_7_waits_for_oneself_raise() -> None:
    mm, found = mn.Mm(), list[object]()
    other, last_user = mm.register(Log()), mn.Mm()
    last_user.register(Log())

    def act() -> None:
        found.extend(dv_7(one) for one in (mn.synchronize, other.unregister, last_user.close))

    mm.register(Log(start=act))
    with mm.invalidate(0, PAGE):
        pass
    assert found == ["invalidate_range_start"] * 3
    assert other.registered and not last_user.closed
    other.unregister()
    last_user.close()


def test_dv_7_in_an_interval_callback() -> None:
    mm, found = mn.Mm(), list[object]()

    def act() -> None:
        found.extend(dv_7(one) for one in (interval.remove, interval.read_begin))

    interval = mm.insert(Interval(act), 0, PAGE)
    with mm.invalidate(0, PAGE):
        pass
    assert found == ["invalidate"] * 2 and interval.inserted
    interval.remove()


def test_ml_5_locks_are_not_recursive() -> None:
    mm = mn.Mm()
    locks = [mm.read_lock, mm.write_lock, mm.rmap_read_lock, mm.rmap_write_lock]
    for outer, inner in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 3), (3, 2)]:
        with locks[outer](), pytest.raises(mn.MisuseError, match="ML-5"):
            locks[inner]().acquire()
    with mm.read_lock():
        for act in (lambda: mm.register(Log()), lambda: mm.insert(Interval(), 0, PAGE), lambda: Log.get(mm)):
            with pytest.raises(mn.MisuseError, match="ML-5"):
                act()
    with mm.write_lock():
        mm.register(Log())
        mm.insert(Interval(), 0, PAGE)
    lock = mm.write_lock()
    assert lock.acquire(blocking=False) and not mm.read_lock().acquire(blocking=False)
    with pytest.raises(RuntimeError, match="already"):
        lock.acquire()
    errors: list[BaseException] = []

    def release() -> None:
        try:
            lock.release()
        except RuntimeError as error:
            errors.append(error)

    in_thread(release)
    assert len(errors) == 1
    lock.release()
    with pytest.raises(RuntimeError):
        lock.release()
