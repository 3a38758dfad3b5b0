# SPDX-License-Identifier: MIT OR Apache-2.0
"""The reference driver, and that its wrong variants are wrong: each by one schedule, written out by hand."""

import threading
from collections.abc import Callable

import pytest

import mmu_notifier as mn
from mmu_notifier.drivers import shadow
from mmu_notifier.drivers.shadow import PAGE


class Switch:
    """Runs `act` once: at the given schedule point of the thread that made it."""

    def __init__(self, act: Callable[[], object], at: int = 0) -> None:
        self.act: Callable[[], object] | None = act
        self.at = at
        self.thread = threading.get_ident()

    def __call__(self) -> None:
        if threading.get_ident() != self.thread or self.act is None:
            return
        self.at -= 1
        if self.at < 0:
            act, self.act = self.act, None
            act()


def in_thread(act: Callable[[], object]) -> None:
    thread = threading.Thread(target=act)
    thread.start()
    thread.join()


def exercise(name: str) -> shadow.Exercise:
    return next(one for one in shadow.EXERCISES + shadow.RIGHT if one.name == name)


def change_at_point(name: str, at: int) -> shadow.Setup:
    """A fault in this thread; at its schedule point `at`, the whole change in another."""
    setup = exercise(name).setup(point=lambda: switch())
    switch = Switch(lambda: in_thread(setup.threads["change"]), at)
    setup.threads["fault"]()
    return setup


@pytest.mark.parametrize("at", range(2))
def test_the_right_driver_reads_again(at: int) -> None:
    setup = change_at_point("nothing", at)
    assert setup.shadow.table == {0: 2}
    assert not setup.check()
    setup.close()
    assert setup.process.mm.references == 1


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("set_seq missing", 1),
        ("retry ignored", 1),
        ("retry outside the lock", 2),
        ("mapping outside a read section", 0),
    ],
)
def test_a_change_in_the_middle_of_the_fault_makes_the_mirror_stale(name: str, at: int) -> None:
    setup = change_at_point(name, at)
    assert setup.check() == ["the mirror of 0x0 is stale"]
    setup.close()


def test_a_fault_between_unlock_and_set_seq_commits_what_is_old() -> None:
    setup = exercise("set_seq unlocked").setup(point=lambda: switch())
    # The callback has two points: in `drop`, and before its late set_seq.
    seq = setup.shadow.read_begin()
    page = setup.process.pages[0]
    switch = Switch(lambda: in_thread(lambda: setup.shadow.commit(0, page, seq)), at=1)
    setup.threads["change"]()
    assert setup.check()
    setup.close()


def test_remove_in_a_callback_is_told() -> None:
    setup = exercise("remove in a callback").setup()
    with pytest.raises(mn.MisuseError) as raised:
        setup.threads["change"]()
    assert raised.value.rule == "DV-7"
    assert raised.value.callback == "invalidate"
    assert "in the callback invalidate" in raised.value.__notes__
    assert setup.process.mm.active == 0, "the range was ended"
    setup.close()


def test_a_non_blockable_change_is_refused_while_the_lock_is_held() -> None:
    setup = exercise("nothing, non-blockable").setup()
    setup.shadow.lock.acquire()
    assert not setup.process.change(0, PAGE, 2, blockable=False)
    setup.shadow.lock.release()
    assert setup.process.pages[0] == 1
    assert setup.process.change(0, PAGE, 2, blockable=False)
    setup.close()


def test_one_that_sleeps_there_waits_for_the_lock() -> None:
    setup = exercise("sleeping in a non-blockable range").setup()
    setup.shadow.lock.acquire()
    thread = threading.Thread(target=setup.threads["change"])
    thread.start()
    while setup.process.mm.active == 0:
        pass
    assert setup.process.pages[0] == 1, "it sleeps in its callback"
    setup.shadow.lock.release()
    thread.join()
    setup.close()


def test_without_an_end_a_fault_sleeps() -> None:
    setup = exercise("end missing").setup()
    setup.threads["change"]()
    process = setup.process
    assert isinstance(process, shadow.EndMissing)
    thread = threading.Thread(target=setup.threads["fault"])
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    process.unended.pop().end()
    thread.join()
    assert not setup.check()
    setup.close()


def test_a_page_that_is_gone_is_not_mirrored() -> None:
    setup = exercise("nothing").setup()
    setup.threads["fault"]()
    setup.process.change(0, 2 * PAGE, None, mn.Event.UNMAP)
    setup.threads["fault"]()
    assert setup.shadow.table == {}
    setup.close()
