# SPDX-License-Identifier: MIT OR Apache-2.0
"""explore(): the wrong drivers are found, the right ones pass, and what is found can be repeated."""

from collections.abc import Callable, Iterator

import pytest

import mmu_notifier as mn
from mmu_notifier import trace
from mmu_notifier.drivers import shadow

pytestmark = pytest.mark.thread_unsafe(reason="there is one scenario at a time in a process")


def setup_of(exercise: shadow.Exercise) -> Callable[[mn.Scenario], None]:
    def setup(s: mn.Scenario) -> None:
        made = exercise.setup(lock=lambda: s.lock("driver"), point=s.point)
        for name, run in made.threads.items():
            s.thread(run, name=name)
        s.watch(made.process.mm)
        s.invariant(made.check)
        s.on_close(made.close)

    return setup


@pytest.mark.parametrize("exercise", shadow.RIGHT, ids=lambda exercise: exercise.name)
@pytest.mark.parametrize("preemptions", [0, 1, 2])
def test_the_right_driver_passes_every_schedule(exercise: shadow.Exercise, preemptions: int) -> None:
    result = mn.Scenario(setup_of(exercise)).explore(preemptions)
    print(result)
    assert result.violation is None, str(result)
    assert result.exhaustive
    assert result.schedules >= [2, 15, 100][preemptions]
    assert f"{result.states_per_second:.0f} states/s" in str(result)


# What is said of each: a part of the violation, and how few preemptions it takes.
FOUND = {
    "set_seq missing": ("the mirror of 0x0 is stale", 1),
    "set_seq unlocked": ("the mirror of 0x0 is stale", 1),
    "retry ignored": ("the mirror of 0x0 is stale", 1),
    "retry outside the lock": ("the mirror of 0x0 is stale", 1),
    "mapping outside a read section": ("the mirror of 0x0 is stale", 1),
    "remove in a callback": ("[DV-7] mmu_interval_notifier_remove", 0),
    "sleeping in a non-blockable range": ("change may sleep inside a callback of a range that is not blockable", 0),
    "end missing": ("fault waits for the end of a busy period", 0),
}


def test_every_exercise_is_known() -> None:
    assert {exercise.name for exercise in shadow.EXERCISES} == set(FOUND)
    assert len(FOUND) >= 8


@pytest.mark.parametrize("exercise", shadow.EXERCISES, ids=lambda exercise: exercise.name)
def test_a_wrong_driver_is_found(exercise: shadow.Exercise) -> None:
    result = mn.Scenario(setup_of(exercise)).explore()
    print(result)
    run = result.violation
    assert run is not None and not result.exhaustive
    text, preemptions = FOUND[exercise.name]
    assert text in (run.violation or "")
    assert run.preemptions == preemptions
    assert str(run) in str(result)
    assert all(f"  {name}" in str(run) for name in set(run.schedule))
    # The same schedule gives the same run.
    again = mn.Scenario(setup_of(exercise)).run(run.schedule)
    assert (again.violation, again.trace, str(again)) == (run.violation, run.trace, str(run))


@pytest.mark.parametrize("exercise", shadow.EXERCISES[:5], ids=lambda exercise: exercise.name)
def test_one_preemption_less_finds_nothing(exercise: shadow.Exercise) -> None:
    assert mn.Scenario(setup_of(exercise)).explore(0).exhaustive


def test_traces_are_traces() -> None:
    for exercise in shadow.EXERCISES:
        result = mn.Scenario(setup_of(exercise)).explore()
        assert result.violation is not None
        found = result.violation.trace
        assert trace.validate(found) == []
        assert found[-1]["violation"] == result.violation.violation
        assert {one["thread"] for one in found} <= {"fault", "change", "worker"}
        sampled = [one for one in found if one["op"] == "set_seq"]
        assert all(one["active"] == 1 and one["seq"] == 3 for one in sampled)


def test_an_exception_of_a_thread_comes_along() -> None:
    exercise = next(exercise for exercise in shadow.EXERCISES if exercise.name == "remove in a callback")
    run = mn.Scenario(setup_of(exercise)).explore().violation
    assert run is not None
    assert isinstance(run.exception, mn.MisuseError)


def lost_addition(s: mn.Scenario) -> dict[str, int]:
    total = {"n": 0}

    def add() -> object:
        seen = total["n"]
        yield
        total["n"] = seen + 1

    s.thread(add, name="a")
    s.thread(add, name="b")
    s.at_end(lambda: total["n"] == 2 or "an addition is lost")
    return total


def test_the_shortest_schedule_with_the_fewest_preemptions() -> None:
    result = mn.Scenario(lost_addition).explore()
    assert result.violation is not None
    assert (len(result.violation.schedule), result.violation.preemptions) == (4, 1)
    assert mn.Scenario(lost_addition).explore(0).exhaustive


def counters(s: mn.Scenario, *, with_state: bool) -> None:
    """Three threads that count for themselves: their steps commute."""
    counts = [0, 0, 0]

    def count(which: int) -> object:
        for _ in range(3):
            counts[which] += 1
            yield

    for which in range(3):
        s.thread(count, which, name=f"t{which}")
    if with_state:
        s.state(lambda: tuple(counts))


def test_states_prune() -> None:
    plain = mn.Scenario(lambda s: counters(s, with_state=False)).explore(1)
    pruned = mn.Scenario(lambda s: counters(s, with_state=True)).explore(None)
    assert plain.exhaustive and pruned.exhaustive
    assert plain.pruned == 0 and pruned.pruned > 0
    # 12! / (4! 4! 4!) schedules, (1 + 4) ** 3 places, at each of which one of three has run last.
    assert pruned.unbounded and pruned.schedules < 1000 and pruned.states <= 3 * 5**3

    def wrong(s: mn.Scenario) -> None:
        total = lost_addition(s)
        s.state(lambda: total["n"])

    assert mn.Scenario(wrong).explore(None).violation is not None


def test_limits() -> None:
    cut = mn.Scenario(setup_of(shadow.RIGHT[0])).explore(max_schedules=5)
    assert cut.schedules == 5 and not cut.exhaustive and cut.violation is None
    assert "cut short" in str(cut)
    with pytest.raises(ValueError, match="without a setup"):
        mn.Scenario().explore()


def test_what_a_setup_raises_ends_the_search() -> None:
    def broken(_: mn.Scenario) -> None:
        raise KeyError("no such page")

    with pytest.raises(KeyError, match="no such page"):
        mn.Scenario(broken).explore()
    assert mn.Scenario(lost_addition).run().violation is None, "another one can run"


def test_a_get_that_comes_while_the_last_user_puts_begins_anew() -> None:
    """The notifier may be collected when the share is on its way: that was a GP-5 of nobody's doing."""

    class Shared(mn.Notifier):
        pass

    def setup(s: mn.Scenario) -> None:
        mm = mn.Mm()

        def user() -> Iterator[None]:
            shared = Shared.get(mm)
            yield
            assert shared.registered
            shared.put()

        s.thread(user, name="a")
        s.thread(user, name="b")
        s.on_close(mm.close)

    result = mn.Scenario(setup).explore()
    assert result.violation is None, str(result)
    assert result.exhaustive and result.schedules > 50


def test_a_report_is_the_same_in_each_run() -> None:
    """It names no address, which is another one each time."""

    class Refuses(mn.IntervalNotifier):
        def invalidate(self, range: mn.Range, cur_seq: int) -> bool:
            return False

    made: list[Refuses] = []

    def setup(s: mn.Scenario) -> None:
        mm = s.watch(mn.Mm())
        # Kept, so that the next one lies elsewhere.
        made.append(mm.insert(Refuses(), 0, 0x1000))

        def change() -> None:
            with mm.invalidate(0, 0x1000):
                pass

        s.thread(change)

    scenario = mn.Scenario(setup)
    run = scenario.explore().violation
    assert run is not None and run.violation is not None
    assert run.violation.startswith("change: [RS-5] ") and "0x" not in run.violation
    again = scenario.run(run.schedule)
    assert (again.violation, again.trace) == (run.violation, run.trace)
