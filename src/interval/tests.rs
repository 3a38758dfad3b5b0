//! What C programs cannot reach in reasonable time: numbers that wrap, and crowds.

use core::ffi::c_ulong;

use super::*;
use crate::abi::notifier::{mmu_interval_notifier_ops, mmu_notifier_range};
use crate::dispatch::{REFERENCE, Range};

/// Notes the number that it was given, as a driver does.
unsafe extern "C" fn invalidate(
    sub: *mut Sub,
    _range: *const mmu_notifier_range,
    seq: c_ulong,
) -> bool {
    // SAFETY: The library passes a live notifier.
    unsafe { (*sub).invalidate_seq = seq };
    true
}

static OPS: mmu_interval_notifier_ops = mmu_interval_notifier_ops {
    invalidate: Some(invalidate),
};

struct Set {
    intervals: Intervals,
}

impl Set {
    fn starting_at(seq: u64) -> Self {
        Self {
            intervals: Intervals::starting_at(seq),
        }
    }

    fn insert(&self, start: c_ulong, length: c_ulong) -> *mut Sub {
        // SAFETY: A notifier may be anything before it is inserted.
        let sub = Box::into_raw(Box::new(unsafe { core::mem::zeroed::<Sub>() }));
        let request = Request {
            interval_sub: sub,
            mm: ptr::null_mut(),
            ops: &raw const OPS,
            start,
            length,
            abi: REFERENCE,
        };
        // SAFETY: Ours until it was removed.
        unsafe { self.intervals.insert(&request, true) }.expect("memory");
        sub
    }

    fn remove(&self, sub: *mut Sub) {
        // SAFETY: Ours, and a member.
        unsafe {
            self.intervals.remove(sub, ptr::null()).expect("a member");
            drop(Box::from_raw(sub));
        }
    }

    fn start(&self, start: c_ulong, end: c_ulong) {
        let range = mmu_notifier_range {
            mm: ptr::null_mut(),
            start,
            end,
            flags: 1,
            event: crate::abi::notifier::mmu_notifier_event::MMU_NOTIFY_UNMAP.into(),
            owner: ptr::null_mut(),
        };
        // SAFETY: The range lives as long as the call.
        unsafe { self.intervals.start(Range::new(&raw const range)) }.expect("nobody refuses");
    }

    fn end(&self) {
        self.intervals.end().expect("a range is in flight");
    }

    fn seq(&self) -> u64 {
        self.intervals.seq(self.intervals.word())
    }

    /// What `read_begin` says.
    fn read_begin(&self, sub: *mut Sub) -> u64 {
        // SAFETY: A member.
        unsafe { self.intervals.read_begin(sub, ptr::null()) }.expect("no wait for itself")
    }
}

fn seq_of_member(sub: *mut Sub) -> u64 {
    // SAFETY: The tests keep theirs.
    unsafe { (*sub).invalidate_seq }
}

/// ST-5, ST-7: a busy period with an overlap moves the number by 2, whatever it is, and a fresh member has the one below.
#[test]
fn st_7_the_number_wraps_as_an_unsigned_long_does() {
    for before in [0, (1 << 24) - 2, (7 << 24) - 2, (1 << 32) - 2, u64::MAX - 1] {
        let set = Set::starting_at(before);
        let early = set.insert(0x1000, 0x1000);
        assert_eq!(seq_of_member(early), before.wrapping_sub(1));
        set.start(0x1000, 0x2000);
        assert_eq!(seq_of_member(early), before + 1, "{before:#x}");
        let deferred = set.insert(0x1000, 0x1000);
        assert_eq!(seq_of_member(deferred), before + 1);
        set.end();
        let after = before.wrapping_add(2);
        assert_eq!(set.seq(), after);
        assert_eq!(set.read_begin(deferred), before + 1);
        let late = set.insert(0x1000, 0x1000);
        assert_eq!(seq_of_member(late), after.wrapping_sub(1));
        set.start(0x1fff, 0x2000);
        for sub in [early, deferred, late] {
            assert_eq!(seq_of_member(sub), after + 1);
        }
        set.end();
        assert_eq!(set.seq(), after.wrapping_add(2));
        for sub in [early, deferred, late] {
            set.remove(sub);
        }
    }
}

/// RB-3: two numbers that differ in their upper part only are different.
#[test]
fn rb_3_only_the_whole_number_collides() {
    let set = Set::starting_at(1 << 24);
    let sub = set.insert(0x1000, 0x1000);
    // SAFETY: Ours.
    unsafe { (*sub).invalidate_seq = (5 << 24) + 1 };
    let other = set.insert(0x9000, 0x1000);
    set.start(0x9000, 0xa000);
    assert_eq!(set.read_begin(sub), (5 << 24) + 1);
    set.end();
    set.remove(sub);
    set.remove(other);
}

/// RS-1: as many ranges as there may be are counted, and the period is over with the last one.
#[test]
fn rs_1_a_crowd_of_ranges_is_counted_exactly() {
    const CROWD: u64 = 3 * 65_536 + 7;
    for odd in [false, true] {
        let set = Set::starting_at(2);
        let sub = set.insert(0x1000, 0x1000);
        for n in 0..CROWD {
            set.start(if odd && n == 0 { 0x1000 } else { 0x8000 }, 0x9000);
        }
        assert_eq!(set.seq(), 2 + u64::from(odd));
        for _ in 1..CROWD {
            set.end();
            assert_eq!(set.seq(), 2 + u64::from(odd));
        }
        set.end();
        assert_eq!(set.seq(), if odd { 4 } else { 2 });
        assert!(set.intervals.end().is_err(), "DV-8: no range is left");
        set.remove(sub);
    }
}

/// II-7b: among a crowd that touches nothing, an insert makes the number odd.
#[test]
fn ii_7b_a_crowd_is_in_flight_for_an_insert() {
    let set = Set::starting_at(2);
    let first = set.insert(0x1000, 0x1000);
    for _ in 0..70_000 {
        set.start(0x8000, 0x9000);
    }
    let second = set.insert(0x8000, 0x1000);
    assert_eq!((set.seq(), seq_of_member(second)), (3, 3));
    for _ in 0..70_000 {
        assert_eq!(set.seq(), 3);
        set.end();
    }
    assert_eq!(set.seq(), 4);
    set.remove(first);
    set.remove(second);
}

/// ST-7, RB-3, IR-6: whoever sleeps for the end of a busy period wakes when its number wraps.
#[test]
fn st_7_sleepers_wake_when_it_wraps() {
    struct Shared(*mut Sub);
    // SAFETY: A notifier may be used by any thread.
    unsafe impl Send for Shared {}
    let set = Set::starting_at(u64::MAX - 1);
    let (reads, removes) = (set.insert(0x1000, 0x1000), set.insert(0x1000, 0x1000));
    let (reader, remover) = (Shared(reads), Shared(removes));
    set.start(0x1000, 0x2000);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let Shared(sub) = { reader };
            assert_eq!(set.read_begin(sub), u64::MAX);
        });
        threads.spawn(|| {
            let Shared(sub) = { remover };
            set.remove(sub);
        });
        // The remover is on the deferred list when it sleeps, or about to.
        while set.intervals.state.lock().deferred.is_empty() {
            std::thread::yield_now();
        }
        set.end();
    });
    assert_eq!(set.seq(), 0);
    set.remove(reads);
}

/// II-7b at the last even number: the insert itself makes it odd.
#[test]
fn st_7_an_insert_makes_the_last_number_odd() {
    let set = Set::starting_at(u64::MAX - 1);
    set.start(0x9000, 0xa000);
    let sub = set.insert(0x1000, 0x1000);
    assert_eq!(seq_of_member(sub), u64::MAX);
    set.end();
    assert_eq!(set.seq(), 0);
    assert_eq!(set.read_begin(sub), u64::MAX);
    set.remove(sub);
}
