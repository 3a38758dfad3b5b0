//! The net: a userfaultfd on what intervals watch, which notices, late, what no site announces: calls by an instruction of the
//! program's own, by io_uring, by another process.
//!
//! Owns: the userfaultfd (`uffd`), the thread that reads it (`monitor`), the one that tells subscribers (`teller`). What is in the
//! net, and that announced calls are not noticed twice, is `cover`.
//!
//! How late: an unmapping or a move is noticed when the pages are gone, a drop (madvise) before it; the call that makes the change
//! returns when the epoch has risen, and does not wait for subscribers. They are called by the library's thread, soon.
//! Not noticed at all: mprotect, shmdt, and changes of a file.
//!
//! Invariants
//! * The monitor waits for nobody, so whoever changes memory in the net waits for no more than to be heard.
//! * Nobody is in the net when the last copy of the descriptor is closed: the kernel sees to it.
//! * A child has no net: the descriptor that it inherits is about its parent's memory, and is closed.
//!
//! Each part of memory in the net may split a mapping: where very many intervals are, there is no net, lest the process runs out of
//! mappings.

pub mod cover;
mod fresh;
mod monitor;
mod teller;
mod uffd;

pub(super) use fresh::Fresh;
pub(super) use monitor::Monitor;
pub(super) use teller::is_late;

use super::signals::{block_signals, restore_signals};
use super::status::Reason;
use crate::abi::notifier::mmu_notifier_range;
use crate::mm::WATCHED;
use crate::sync::{AtomicU32, AtomicUsize, Ordering};
use cover::Cover;
use uffd::{BUSY, CLOSED, KIND, ROOM, Uffd};

static NET: Cover<Uffd> = Cover::new();
/// Is there a net? A child of a bare clone() finds it set, and live not enabled. `gate` reads it.
pub(super) static SPREAD: AtomicU32 = AtomicU32::new(0);
/// How many intervals may be in it.
static MOST: AtomicUsize = AtomicUsize::new(0);

fn is_spread() -> bool {
    // ORDERING: Relaxed: ordered by the lock of the intervals. Who publishes an interval after `spread` has begun to look for them
    // sees it. Who sees it too long finds no net.
    SPREAD.load(Ordering::Relaxed) != 0 && WATCHED.is_enabled()
}

/// A quarter of the mappings that the process may have, at two for each interval.
fn most_intervals() -> usize {
    const USUAL: usize = 65530;
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count");
    let most = text.ok().and_then(|text| text.trim().parse().ok());
    most.unwrap_or(USUAL) / 4
}

/// Before [`spread`]. Allocates: no lock is held.
pub(super) fn start() -> Result<Monitor, Reason> {
    // ORDERING: Relaxed: a number.
    MOST.store(most_intervals(), Ordering::Relaxed);
    Monitor::start()
}

/// Puts the net, which `monitor` reads, over what is watched, and what will be. Live is enabled.
pub(super) fn spread(monitor: &Monitor) {
    uffd::forget_faults();
    // ORDERING: Relaxed: as in `is_spread`. First of all: whoever does not see it has published, and is found.
    SPREAD.store(1, Ordering::Relaxed);
    if has_room() {
        NET.begin(monitor.uffd());
    }
}

/// Why the net is not on all of what is watched, if it is not.
pub(super) fn hole() -> Option<Reason> {
    let gravest = [
        (CLOSED, Reason::NetClosed),
        (ROOM, Reason::NetRoom),
        (BUSY, Reason::NetBusy),
        (KIND, Reason::NetKind),
    ];
    let faults = uffd::faults();
    let found = gravest.into_iter().find(|(bit, _)| faults & bit != 0);
    found.map(|(_, reason)| reason)
}

/// Takes the net away.
pub(super) fn take_in() {
    // ORDERING: Relaxed: as in `is_spread`.
    SPREAD.store(0, Ordering::Relaxed);
    NET.end();
}

/// In the child of a fork, where `monitor` is not.
///
/// # Safety
/// No other thread runs.
#[expect(unsafe_code, reason = "locks of threads that are not there")]
pub(super) unsafe fn forget(monitor: Monitor) {
    // ORDERING: Relaxed: there is one thread.
    SPREAD.store(0, Ordering::Relaxed);
    // SAFETY: The caller's promise. A forking call is not in a window.
    unsafe { NET.begin_anew() };
    teller::forget();
    monitor.forget();
}

fn has_room() -> bool {
    // ORDERING: Relaxed: a number.
    let has_room = WATCHED.intervals() <= MOST.load(Ordering::Relaxed);
    if !has_room {
        uffd::fault(ROOM);
    }
    has_room
}

/// An interval was inserted.
pub(super) fn inserted(start: u64, last: u64) {
    if is_spread() && has_room() {
        NET.inserted(start, last);
    }
}

/// An interval was removed.
pub(super) fn removed(start: u64, last: u64) {
    if is_spread() {
        NET.removed(start, last);
    }
}

/// A mapping in the net has grown over `[start, end)`.
pub(super) fn grown(start: usize, end: usize) {
    if is_spread() && start < end {
        undisturbed(|| NET.removed(start as u64, end as u64 - 1));
    }
}

/// Makes `change` of `ranges`, which were announced. All signals are blocked.
pub(super) fn change(ranges: &[mmu_notifier_range], change: impl FnOnce()) {
    if is_spread() {
        NET.change(ranges, change);
    } else {
        change();
    }
}

/// As [`change`], for who has announced it otherwise.
pub(super) fn change_for(ranges: &[mmu_notifier_range], change: &mut dyn FnMut()) {
    if !is_spread() {
        return change();
    }
    undisturbed(|| NET.change(ranges, change));
}

/// Runs `act`, which takes the lock of the net: no signal handler may leave it half-way.
fn undisturbed(act: impl FnOnce()) {
    let signals = block_signals(u64::MAX);
    act();
    restore_signals(signals);
}
