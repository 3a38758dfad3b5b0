//! The sequence number at the end of its numbers: nobody counts that far, and drivers cannot set it.

use super::*;
use crate::abi::mm::mm_struct;
use crate::abi::notifier::{
    MMU_NOTIFIER_RANGE_BLOCKABLE, mmu_interval_notifier_ops, mmu_notifier_event, mmu_notifier_range,
};
use crate::dispatch::{REFERENCE, Range};
use core::ffi::{c_ulong, c_void};
use core::mem::MaybeUninit;

static OPS: mmu_interval_notifier_ops = mmu_interval_notifier_ops {
    invalidate: Some(take_seq),
};

unsafe extern "C" fn take_seq(
    sub: *mut Sub,
    _: *const mmu_notifier_range,
    cur_seq: c_ulong,
) -> bool {
    // SAFETY: Called with a member.
    // ORDERING: Relaxed: as a driver's store.
    unsafe { seq_of(sub) }.store(cur_seq, Ordering::Relaxed);
    true
}

/// Never looked at.
const MM: *mut mm_struct = ptr::without_provenance_mut(8);

/// Idle intervals whose number is `seq`.
fn at(seq: u64) -> Intervals {
    let intervals = Intervals::new();
    intervals.state.lock().seq = seq;
    intervals
}

fn insert(intervals: &Intervals, start: c_ulong) -> *mut Sub {
    let sub = Box::into_raw(Box::new(MaybeUninit::<Sub>::uninit())).cast();
    let new = Insert {
        sub,
        mm: MM,
        ops: &raw const OPS,
        start,
        length: 0x1000,
        abi: REFERENCE,
        mm_has_users: true,
    };
    // SAFETY: Fresh memory, freed by `remove`.
    unsafe { intervals.insert(&new) }.expect("room");
    sub
}

fn remove(intervals: &Intervals, sub: *mut Sub) {
    // SAFETY: Inserted by `insert`.
    unsafe { intervals.remove(sub, MM.cast()) }.expect("a member");
    // SAFETY: As above; its memory is ours again.
    drop(unsafe { Box::from_raw(sub.cast::<MaybeUninit<Sub>>()) });
}

fn read_begin(intervals: &Intervals, sub: *mut Sub) -> u64 {
    // SAFETY: Inserted by `insert`.
    unsafe { intervals.read_begin(sub, ptr::null::<c_void>()) }.expect("a member")
}

fn start(intervals: &Intervals, start: c_ulong) {
    let range = mmu_notifier_range {
        mm: MM,
        start,
        end: start + 0x1000,
        flags: MMU_NOTIFIER_RANGE_BLOCKABLE,
        event: mmu_notifier_event::MMU_NOTIFY_CLEAR.into(),
        owner: ptr::null_mut(),
    };
    // SAFETY: Valid for the call.
    let range = unsafe { Range::new(&raw const range) };
    // SAFETY: Every member is valid.
    unsafe { intervals.start(&range) }.expect("blockable");
}

fn number(sub: *mut Sub) -> u64 {
    // SAFETY: Inserted by `insert`.
    unsafe { load_seq(sub) }
}

#[test]
fn st_7_the_number_wraps() {
    let intervals = at(u64::MAX - 1);
    let early = insert(&intervals, 0x1000);
    assert_eq!(number(early), u64::MAX - 2);
    start(&intervals, 0x1000);
    assert_eq!(number(early), u64::MAX);
    let deferred = insert(&intervals, 0x5000);
    assert_eq!(number(deferred), u64::MAX);
    intervals.end().expect("paired");
    assert_eq!(intervals.state.lock().seq, 0);

    // SPEC: ST-7
    let first = insert(&intervals, 0x2000);
    assert_eq!(number(first), u64::MAX);
    for sub in [early, deferred, first] {
        assert_eq!(read_begin(&intervals, sub), u64::MAX, "it does not sleep");
    }
    start(&intervals, 0x2000);
    assert_eq!(number(first), 1);
    assert_eq!(read_begin(&intervals, early), u64::MAX, "not concerned");
    intervals.end().expect("paired");
    assert_eq!(read_begin(&intervals, first), 1);
    assert_eq!(intervals.state.lock().seq, 2);
    for sub in [early, deferred, first] {
        remove(&intervals, sub);
    }
}

#[test]
fn st_7_sleepers_wake_when_it_wraps() {
    struct Shared(*mut Sub);
    // SAFETY: A notifier may be used by any thread.
    unsafe impl Send for Shared {}
    let intervals = at(u64::MAX - 1);
    let (reads, removes) = (insert(&intervals, 0x1000), insert(&intervals, 0x1000));
    let (reader, remover) = (Shared(reads), Shared(removes));
    start(&intervals, 0x1000);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let Shared(sub) = { reader };
            assert_eq!(read_begin(&intervals, sub), u64::MAX);
        });
        threads.spawn(|| {
            let Shared(sub) = { remover };
            remove(&intervals, sub);
        });
        // The remover is on the deferred list when it sleeps, or about to.
        while intervals.state.lock().deferred.is_null() {
            std::thread::yield_now();
        }
        intervals.end().expect("paired");
    });
    assert_eq!(intervals.state.lock().seq, 0);
    remove(&intervals, reads);
}

/// II-7b at the last even number: the insert itself makes it odd.
#[test]
fn st_7_an_insert_makes_the_last_number_odd() {
    let intervals = at(u64::MAX - 1);
    start(&intervals, 0x9000);
    let sub = insert(&intervals, 0x1000);
    assert_eq!(number(sub), u64::MAX);
    intervals.end().expect("paired");
    assert_eq!(intervals.state.lock().seq, 0);
    assert_eq!(read_begin(&intervals, sub), u64::MAX);
    remove(&intervals, sub);
}
