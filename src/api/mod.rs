//! The face for Rust programs (floor 6): address spaces, subscribers and ranges that cannot be used wrongly without the compiler,
//! or an error, saying so.
//!
//! Owns: the heap objects that the core links (a subscription's node), what becomes of a panic in a callback (`callbacks`), and
//! which locks of address spaces the calling thread holds (`locks`).
//!
//! | here | in C |
//! |---|---|
//! | [`Mm`], [`MmRef`], [`AddressSpace`] | a user of an mm_struct, a reference to one, the struct |
//! | [`Notifier`], [`Subscription`], [`Factory`], [`Shared`] | mmu_notifier_ops, register and unregister, get and put |
//! | [`IntervalNotifier`], [`IntervalSubscription`], [`Interval`], [`Section`] | interval ops, insert and remove, read_begin and read_retry |
//! | [`Change`], [`Invalidation`], [`Range`], [`Event`] | a range between its start and its end, and as callbacks see it |
//!
//! A driver that keeps copies of page table entries, and drops them in time:
//!
//! ```
//! use mmu_notifier::api::{Change, Event, Interval, IntervalNotifier, Mm, Range};
//! use std::collections::BTreeMap;
//! use std::sync::Mutex;
//!
//! #[derive(Default)]
//! struct Shadow(Mutex<BTreeMap<u64, u64>>);
//!
//! impl IntervalNotifier for Shadow {
//!     fn invalidate(&self, interval: &Interval, range: &Range<'_>, cur_seq: u64) -> bool {
//!         let mut table = self.0.lock().unwrap();
//!         interval.set_seq(cur_seq);
//!         table.retain(|address, _| !(range.start()..range.end()).contains(address));
//!         true
//!     }
//! }
//!
//! let mm = Mm::new()?;
//! let shadow = mm.insert(0x1000, 0x4000, Shadow::default())?;
//!
//! // A fault: look at the page table, then commit, unless it changed meanwhile.
//! loop {
//!     let section = shadow.read_begin()?;
//!     let entry = 42; // what the page table says of 0x2000
//!     let mut table = shadow.notifier().0.lock().unwrap();
//!     if !section.read_retry() {
//!         table.insert(0x2000, entry);
//!         break;
//!     }
//! }
//!
//! // The page goes away.
//! let reading = mm.mmap_read_lock()?;
//! let unmapping = mm.invalidate_range_start(Change::new(0x2000..0x3000, Event::UNMAP))?;
//! assert!(shadow.notifier().0.lock().unwrap().is_empty());
//! unmapping.end();
//! drop(reading);
//! # Ok::<(), mmu_notifier::api::Error>(())
//! ```
//!
//! Errors. What the contract answers with an errno is [`Error::Errno`]; a broken rule, which the kernel would answer with a
//! warning, a hang or a crash, is [`Error::Misuse`] and names the rule (DV-17). A call that would wait for itself is one of these
//! (DV-7). What a callback answered wrongly goes to the report handler ([`set_report_handler`]), as in C.
//!
//! Use after the end does not compile. A subscription that was removed is gone, and so is what was borrowed from it:
//!
//! ```compile_fail,E0505
//! # use mmu_notifier::api::{Interval, IntervalNotifier, Mm, Range};
//! # struct Quiet;
//! # impl IntervalNotifier for Quiet {
//! #     fn invalidate(&self, _: &Interval, _: &Range<'_>, _: u64) -> bool { true }
//! # }
//! let mm = Mm::new()?;
//! let interval = mm.insert(0, 0x1000, Quiet)?;
//! let section = interval.read_begin()?;
//! interval.remove()?; // error: cannot move out of `interval` because it is borrowed
//! section.read_retry();
//! # Ok::<(), mmu_notifier::api::Error>(())
//! ```
//!
//! Panics. A callback that panics does not unwind through the walk: the panic is caught where it is raised, the callback counts
//! as having agreed, the walk goes on, and the panic goes on in the call that caused the event, once everybody was told. (A range
//! whose start it was is ended on the way out.) The first of several panics is the one; on the library's worker, where nobody
//! called, it ends with the message of the panic hook.
//!
//! Callbacks run on the thread that causes the event, several at a time, and with no lock of the library held; SPEC 4.1 and 4.2
//! say what they may do.
#![expect(
    unsafe_code,
    reason = "the face between references and the core's pointers"
)]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "accesses to one live object"
)]

mod callbacks;
mod error;
mod interval;
mod locks;
mod loose;
mod notifier;
mod range;
mod reports;
mod shared;
mod space;

use crate::sync::point::{Kind, point};

pub use error::{Error, Misuse, Refused, Result};
pub use interval::{Interval, IntervalNotifier, IntervalSubscription, Section};
pub use locks::{Lock, Mode, ReadGuard, WriteGuard};
pub use loose::LooseInterval;
pub use notifier::{Notifier, Ops, Refusal, Subscription};
pub use range::{Change, Event, Invalidation, Range};
pub use reports::{Report, Severity, set_report_handler};
pub use shared::{Factory, Shared};
pub use space::{AddressSpace, Hold, Mm, MmRef};

/// A schedule point of an explorer in front of a call that is about `object` (`crate::explore`, on this floor, has the scheduler).
#[inline]
fn at<T>(kind: Kind, object: *const T) {
    point(kind, object.cast());
}

/// Waits until everything that a put owes now has been done (the notifier was freed, and its reference to the address space
/// dropped), and until every callback of a [`Notifier`] that is running now, in any address space, is over.
///
/// # Errors
/// DV-7: from a callback of a notifier, or on the library's worker.
///
/// ```
/// use mmu_notifier::api::{Mm, Notifier, Ops, synchronize};
/// use std::sync::{Arc, Weak};
///
/// struct Owner(#[expect(dead_code, reason = "held")] Arc<()>);
/// impl Notifier for Owner {
///     const OPS: Ops = Ops::NONE;
/// }
///
/// let mm = Mm::new()?;
/// let thing = Arc::new(());
/// let weak: Weak<()> = Arc::downgrade(&thing);
/// mm.register(Owner(thing))?.put();
/// synchronize()?;
/// assert!(weak.upgrade().is_none(), "the notifier was freed");
/// # Ok::<(), mmu_notifier::api::Error>(())
/// ```
// SPEC: SY-1 DV-5
pub fn synchronize() -> Result<()> {
    at(
        Kind::MMU_NOTIFIER_EXPLORE_SYNCHRONIZE,
        core::ptr::null::<()>(),
    );
    Ok(crate::mm::synchronize()?)
}
