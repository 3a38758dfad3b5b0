//! fork: PROTECTION_PAGE of the whole address space, from before the first lock of the library is taken until the last one is released.
//!
//! fork() of libc is met by its handlers (`mm::fork`), other ways by their system call (`hook`). In the child nobody subscribes, and
//! nothing is enabled. Where fork()'s system call comes by `hook`, that takes the library's locks, after malloc's.
#![expect(unsafe_code, reason = "callbacks of C")]
#![expect(clippy::multiple_unsafe_ops_per_block, reason = "one pair, handed on")]

use core::cell::Cell;
use core::ptr;

use super::changes::{Changes, EVERYTHING};
use super::{classify, count_event};
use crate::live::sites::{self, objects};
use crate::live::switch::inflight;
use crate::live::switch::state::{SHOWN, STATE};
use crate::mm::WATCHED;
use crate::mm::calls::{self, Call, Pair};
use crate::report::LIVE_NESTED;
use crate::thread;

/// A pair that spans functions.
struct Announced {
    changes: *mut Changes,
    pair: Pair<'static>,
}

thread_local! {
    /// The pair of the fork that this thread is in the middle of.
    static ANNOUNCED: Cell<*mut Announced> = const { Cell::new(ptr::null_mut()) };
}

/// Is this thread inside a fork() that was announced?
pub(super) fn is_announced() -> bool {
    !ANNOUNCED.get().is_null()
}

/// Says whether the system call will come by `hook`.
pub(in crate::live) fn begins() -> bool {
    if thread::inside_event() {
        // `hook` counts it.
        LIVE_NESTED.broken_by(c"fork").report();
    } else {
        announce();
    }
    STATE.acquire();
    objects::WALKING.acquire();
    if calls::is_enabled() {
        return sites::meets_fork();
    }
    // Another thread turned events off: those under way end before locks are taken that they may want inside free().
    end_announced();
    if !calls::is_inside() {
        calls::drain();
    }
    false
}

/// Are there events, and somebody who watches?
pub(super) fn may_concern() -> bool {
    WATCHED.is_enabled() && WATCHED.hull().is_some()
}

fn announce() {
    // Who subscribes after this is met by the system call, whose hook looks for itself.
    if !may_concern() {
        return;
    }
    let mut changes = Box::new(Changes::new(calls::own_mm()));
    classify::fork(EVERYTHING, &mut changes);
    let changes = Box::into_raw(changes);
    // Not to be left by a handler's longjmp().
    let section = Call::enter(0);
    // Asked again inside: after `disable` has waited for sections, nothing is announced.
    let pair = if may_concern() {
        // SAFETY: Subscribers keep the contract. The ranges live until the pair has ended.
        unsafe { section.announce(|| (*changes).ranges()) }
    } else {
        section.leave();
        None
    };
    let announced = pair.map(|pair| Box::into_raw(Box::new(Announced { changes, pair })));
    match announced {
        Some(announced) => ANNOUNCED.set(announced),
        // SAFETY: Ours, and nobody else's.
        None => drop(unsafe { Box::from_raw(changes) }),
    }
}

/// The pair that `begins` made.
fn take() -> Option<(Pair<'static>, Box<Changes>)> {
    let announced = ANNOUNCED.replace(ptr::null_mut());
    // SAFETY: What `announce` left, used once.
    (!announced.is_null()).then(|| unsafe {
        let announced = *Box::from_raw(announced);
        (announced.pair, Box::from_raw(announced.changes))
    })
}

pub(in crate::live) fn ended() {
    // SAFETY: Taken by `begins`.
    unsafe { objects::WALKING.release() };
    // SAFETY: As above.
    unsafe { STATE.release() };
    end_announced();
}

fn end_announced() {
    if let Some((pair, changes)) = take() {
        // SAFETY: Subscribers keep the contract.
        unsafe { pair.end() };
        drop(changes);
        count_event();
    }
}

pub(in crate::live) fn ended_in_child() {
    inflight::forget();
    // SAFETY: Taken by `begins`, in the parent.
    unsafe {
        SHOWN.renew_in_child();
        STATE.data().begin_anew();
        objects::WALKING.release();
        STATE.release();
    }
    if let Some((pair, changes)) = take() {
        pair.forget();
        drop(changes);
    }
}
