//! Interval notifiers: insert, remove, and the collision-retry read (SPEC 3.4 to 3.7, 4.3).

use core::cell::UnsafeCell;
use core::ffi::c_ulong;
use core::fmt;
use core::mem::{ManuallyDrop, offset_of};
use core::ops::Deref;
use core::ptr::{self, NonNull};

use super::callbacks::shield;
use super::{AddressSpace, Kind, Lock, Mm, Mode, Range, Refused, Result, at};
use crate::abi::notifier::{mmu_interval_notifier, mmu_interval_notifier_ops, mmu_notifier_range};
use crate::abi::types::{callback_head, hlist_node, interval_tree_node, rb_node};
use crate::dispatch::REFERENCE;
use crate::mm::{self as core_mm, Request};
use crate::sync::{AtomicU64, Ordering};

/// A subscriber to an interval of an address space.
///
/// ```
/// use mmu_notifier::api::{Change, Event, Interval, IntervalNotifier, Mm, Range};
/// use std::sync::Mutex;
///
/// /// Which of four pages are mapped.
/// struct Pages(Mutex<[bool; 4]>);
/// impl IntervalNotifier for Pages {
///     fn invalidate(&self, interval: &Interval, range: &Range<'_>, cur_seq: u64) -> bool {
///         let mut pages = match self.0.try_lock() {
///             Ok(pages) => pages,
///             Err(_) if !range.is_blockable() => return false, // refuse before anything is done
///             Err(_) => self.0.lock().unwrap(),
///         };
///         interval.set_seq(cur_seq);
///         for (page, mapped) in (interval.start()..).step_by(0x1000).zip(pages.iter_mut()) {
///             *mapped &= !(page < range.end() && range.start() < page + 0x1000);
///         }
///         true
///     }
/// }
///
/// let mm = Mm::new()?;
/// let pages = mm.insert(0x4000, 0x4000, Pages(Mutex::new([true; 4])))?;
/// mm.invalidate_range_start(Change::new(0x5000..0x6001, Event::CLEAR))?.end();
/// assert_eq!(pages.remove()?.0.into_inner().unwrap(), [true, false, false, true]);
/// # Ok::<(), mmu_notifier::api::Error>(())
/// ```
pub trait IntervalNotifier: Send + Sync + 'static {
    /// `range` touches the interval. Takes the user lock, calls [`Interval::set_seq`] with `cur_seq`, and drops what it has of the
    /// range. May run several times at once. May sleep if the range is blockable; otherwise it may refuse, before it does anything,
    /// by false. (False for a blockable range is warned of and ignored: RS-5.)
    fn invalidate(&self, interval: &Interval, range: &Range<'_>, cur_seq: u64) -> bool;
}

/// An interval that is inserted: as its [`IntervalSubscription`] derefs to, and as its callback gets it.
#[repr(transparent)]
pub struct Interval(UnsafeCell<mmu_interval_notifier>);

// SAFETY: What is read of it is constant while it is inserted, or atomic.
unsafe impl Sync for Interval {}

impl Interval {
    pub(super) fn raw(&self) -> *mut mmu_interval_notifier {
        self.0.get()
    }

    /// The address space. Its struct is kept by the insertion.
    pub fn mm(&self) -> &AddressSpace {
        // SAFETY: Inserted.
        unsafe { AddressSpace::from_raw((*self.raw()).mm) }
    }

    /// First byte.
    pub fn start(&self) -> u64 {
        // SAFETY: Inserted: the bounds do not change.
        unsafe { (*self.raw()).interval_tree.start }
    }

    /// Last byte, inclusive.
    // SPEC: II-6
    pub fn last(&self) -> u64 {
        // SAFETY: As above.
        unsafe { (*self.raw()).interval_tree.last }
    }

    /// The number as an atomic. In C it is a plain word that the user lock orders; here nothing can go wrong without that lock but
    /// the protocol itself.
    fn seq_word(&self) -> &AtomicU64 {
        // SAFETY: The field has the size and alignment of an AtomicU64, and is accessed as one by the core.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.raw()).invalidate_seq) }
    }

    /// The number of the last change that concerned the interval; odd.
    // SPEC: ST-7
    pub fn seq(&self) -> u64 {
        // ORDERING: Relaxed: what `set_seq` stores under the user lock is ordered by that lock (4.3-7).
        self.seq_word().load(Ordering::Relaxed)
    }

    /// Notes that a change concerns the interval: in the callback, under the user lock, with its `cur_seq`, before anything else.
    // SPEC: 1.3 4.3-5
    pub fn set_seq(&self, cur_seq: u64) {
        at(Kind::MMU_NOTIFIER_EXPLORE_SET_SEQ, self.raw());
        // ORDERING: Relaxed: the user lock orders it (4.3-7).
        self.seq_word().store(cur_seq, Ordering::Relaxed);
    }

    /// Begins a read of what the interval covers. Sleeps until no change of it is under way. Not under the user lock, nor from a
    /// callback.
    ///
    /// # Errors
    /// DV-7: it would wait for the callback that it is called from.
    // SPEC: RB-1 RB-3 MO-2
    pub fn read_begin(&self) -> Result<Section<'_>> {
        at(Kind::MMU_NOTIFIER_EXPLORE_READ_BEGIN, self.raw());
        // SAFETY: Inserted.
        let seq = unsafe { core_mm::read_begin(self.raw()) }?;
        Ok(Section {
            interval: self,
            seq,
        })
    }

    /// Has the interval changed since a read that began with `seq`? Under the user lock: false proves that it has not. For numbers
    /// that are kept (4.3-8); a section has [`Section::read_retry`].
    // SPEC: 1.3
    pub fn read_retry(&self, seq: u64) -> bool {
        at(Kind::MMU_NOTIFIER_EXPLORE_READ_RETRY, self.raw());
        self.seq() != seq
    }

    /// As [`Interval::read_retry`], without the user lock: true is definite, false a hint.
    // SPEC: 1.3
    pub fn check_retry(&self, seq: u64) -> bool {
        at(Kind::MMU_NOTIFIER_EXPLORE_CHECK_RETRY, self.raw());
        self.seq() != seq
    }
}

impl fmt::Debug for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "[{:#x}, {:#x}] seq {}",
            self.start(),
            self.last(),
            self.seq()
        )
    }
}

/// A read of what an interval covers, between read_begin and read_retry. The [module](super) has an example.
///
/// The closing step takes it, so that it is made once:
///
/// ```compile_fail,E0382
/// # use mmu_notifier::api::{Interval, IntervalNotifier, Mm, Range};
/// # struct Quiet;
/// # impl IntervalNotifier for Quiet {
/// #     fn invalidate(&self, _: &Interval, _: &Range<'_>, _: u64) -> bool { true }
/// # }
/// let mm = Mm::new()?;
/// let interval = mm.insert(0, 0x1000, Quiet)?;
/// let section = interval.read_begin()?;
/// if !section.read_retry() {
///     section.read_retry(); // error: use of moved value
/// }
/// # Ok::<(), mmu_notifier::api::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a read is worth nothing before read_retry says that nothing changed"]
pub struct Section<'a> {
    interval: &'a Interval,
    seq: u64,
}

impl Section<'_> {
    /// The number of the read. To be kept where the copies are kept for long (4.3-8).
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Is it certain already that the read is in vain? False is a hint only. Without the user lock.
    pub fn check_retry(&self) -> bool {
        self.interval.check_retry(self.seq)
    }

    /// The closing step, under the user lock: must the read be made again? If not, what was read holds until that lock is
    /// released, and can be committed before.
    // SPEC: 4.3-3
    pub fn read_retry(self) -> bool {
        self.interval.read_retry(self.seq)
    }
}

/// What the core links: an interval notifier with its table of ops.
///
/// # Invariants
/// It is on the heap, and pinned there as long as it is inserted.
#[repr(C)]
struct Node<N> {
    raw: mmu_interval_notifier,
    /// Queued by `remove_later`.
    work: callback_head,
    ops: mmu_interval_notifier_ops,
    notifier: N,
}

const EMPTY: mmu_interval_notifier = mmu_interval_notifier {
    interval_tree: interval_tree_node {
        rb: rb_node {
            __rb_parent_color: 0,
            rb_right: ptr::null_mut(),
            rb_left: ptr::null_mut(),
        },
        start: 0,
        last: 0,
        __subtree_last: 0,
    },
    ops: ptr::null(),
    mm: ptr::null_mut(),
    deferred_item: hlist_node {
        next: ptr::null_mut(),
        pprev: ptr::null_mut(),
    },
    invalidate_seq: 0,
};

impl<N: IntervalNotifier> Node<N> {
    fn new(notifier: N) -> Box<Self> {
        Box::new(Self {
            raw: EMPTY,
            work: callback_head {
                next: ptr::null_mut(),
                func: Some(remove_on_worker::<N>),
            },
            ops: mmu_interval_notifier_ops {
                invalidate: Some(invalidate::<N>),
            },
            notifier,
        })
    }
}

unsafe extern "C" fn invalidate<N: IntervalNotifier>(
    sub: *mut mmu_interval_notifier,
    range: *const mmu_notifier_range,
    cur_seq: c_ulong,
) -> bool {
    const { assert!(offset_of!(Node<()>, raw) == 0) };
    // SAFETY: The core passes a node of ours that is inserted, and a valid range. The notifier and the core's part are borrowed apart.
    let (notifier, interval, range) = unsafe {
        (
            &(*sub.cast::<Node<N>>()).notifier,
            &*sub.cast::<Interval>(),
            Range::from_raw(range),
        )
    };
    shield(true, || notifier.invalidate(interval, &range, cur_seq))
}

/// Ends a membership on the library's worker, which may wait.
unsafe extern "C" fn remove_on_worker<N: IntervalNotifier>(work: *mut callback_head) {
    let node = work
        .wrapping_byte_sub(offset_of!(Node<N>, work))
        .cast::<Node<N>>();
    // SAFETY: Queued by `remove_later`: a node that is inserted and that nobody else will remove.
    if unsafe { core_mm::remove(node.cast()) }.is_ok() {
        // SAFETY: Nobody else knows it any more.
        let node = unsafe { Box::from_raw(node) };
        shield((), || drop(node));
    }
}

/// An inserted interval notifier. It is removed when this is dropped: as [`IntervalSubscription::remove`] does, or, inside a
/// callback of the same address space, as [`IntervalSubscription::remove_later`] does. It keeps the struct of the address space,
/// not its users.
///
/// ```compile_fail,E0505
/// # use mmu_notifier::api::{Interval, IntervalNotifier, Mm, Range};
/// # struct Quiet;
/// # impl IntervalNotifier for Quiet {
/// #     fn invalidate(&self, _: &Interval, _: &Range<'_>, _: u64) -> bool { true }
/// # }
/// let mm = Mm::new()?;
/// let subscription = mm.insert(0, 0x1000, Quiet)?;
/// let interval: &Interval = &subscription;
/// drop(subscription); // error: cannot move out of `subscription` because it is borrowed
/// interval.set_seq(1);
/// # Ok::<(), mmu_notifier::api::Error>(())
/// ```
pub struct IntervalSubscription<N: IntervalNotifier>(NonNull<Node<N>>);

// SAFETY: The notifier is Send and Sync; the rest may be called from any thread.
unsafe impl<N: IntervalNotifier> Send for IntervalSubscription<N> {}
// SAFETY: As above.
unsafe impl<N: IntervalNotifier> Sync for IntervalSubscription<N> {}

impl Mm {
    /// Inserts a notifier for `length` bytes from `start`; no alignment is needed, and `start + length` may be 2^64. If the address
    /// space never had one, takes mmap_lock for writing unless the calling thread holds it in this way. While a change is under
    /// way, the notifier becomes active at its end.
    ///
    /// # Errors
    /// EOVERFLOW: `length` is 0, or too long. ENOMEM. ML-5: it would wait for a lock that the calling thread holds.
    ///
    /// ```
    /// # use mmu_notifier::api::{Interval, IntervalNotifier, Mm, Range};
    /// # #[derive(Debug)] struct Quiet;
    /// # impl IntervalNotifier for Quiet {
    /// #     fn invalidate(&self, _: &Interval, _: &Range<'_>, _: u64) -> bool { true }
    /// # }
    /// let mm = Mm::new()?;
    /// let top = mm.insert(u64::MAX - 0xfff, 0x1000, Quiet)?;
    /// assert_eq!(top.last(), u64::MAX);
    /// assert_eq!(mm.insert(u64::MAX, 2, Quiet).unwrap_err().errno(), 75);
    /// # Ok::<(), mmu_notifier::api::Error>(())
    /// ```
    // SPEC: II-1 II-4 II-6 II-9 II-11
    pub fn insert<N: IntervalNotifier>(
        &self,
        start: u64,
        length: u64,
        notifier: N,
    ) -> Result<IntervalSubscription<N>> {
        let node = ManuallyDrop::new(new_node(notifier));
        match insert_node(self, &node, start, length) {
            Ok(()) => Ok(ManuallyDrop::into_inner(node)),
            Err(error) => {
                // SAFETY: Not inserted.
                unsafe { ManuallyDrop::into_inner(node).free_uninserted() };
                Err(error)
            }
        }
    }
}

/// A subscription that is not inserted yet: not to be dropped before it is.
pub(super) fn new_node<N: IntervalNotifier>(notifier: N) -> IntervalSubscription<N> {
    IntervalSubscription(NonNull::from(Box::leak(Node::new(notifier))))
}

/// Inserts what `new_node` made and is not inserted; the rest as [`Mm::insert`].
pub(super) fn insert_node<N: IntervalNotifier>(
    mm: &Mm,
    subscription: &IntervalSubscription<N>,
    start: u64,
    length: u64,
) -> Result<()> {
    at(Kind::MMU_NOTIFIER_EXPLORE_INSERT, mm.raw());
    // SAFETY: A user keeps it.
    let registers = !unsafe { core_mm::has_intervals(mm.raw()) };
    let locked = if registers {
        mm.locked_for_registration(c"mmu_interval_notifier_insert")?
    } else {
        mm.held_mode(Lock::Mmap) == Some(Mode::Write)
    };
    let node = subscription.0.as_ptr();
    // SAFETY: A node that stays until it is removed, with its table in it; `mm` is a user.
    unsafe {
        let request = Request {
            interval_sub: node.cast(),
            mm: mm.raw(),
            start,
            length,
            ops: &raw const (*node).ops,
            abi: REFERENCE,
        };
        if locked {
            core_mm::insert_locked(&request)
        } else {
            core_mm::insert(&request)
        }
    }?;
    Ok(())
}

impl<N: IntervalNotifier> IntervalSubscription<N> {
    /// The notifier.
    pub fn notifier(&self) -> &N {
        // SAFETY: Inserted as long as this guard is there. Only the notifier is borrowed: the rest is the core's.
        unsafe { &(*self.0.as_ptr()).notifier }
    }

    /// Removes the notifier. Sleeps while a change that may concern it is under way: afterwards no callback of it runs. Not under a
    /// lock that its callback takes.
    ///
    /// # Errors
    /// DV-7: it would wait for the callback that it is called from. The notifier stays inserted.
    // SPEC: IR-1 IR-8
    pub fn remove(self) -> core::result::Result<N, Refused<Self>> {
        let guard = ManuallyDrop::new(self);
        at(Kind::MMU_NOTIFIER_EXPLORE_REMOVE, guard.0.as_ptr());
        // SAFETY: Inserted.
        match unsafe { core_mm::remove(guard.0.as_ptr().cast()) } {
            // SAFETY: Removed, and nobody else knows the node.
            Ok(()) => Ok(unsafe { Box::from_raw(guard.0.as_ptr()) }.notifier),
            Err(error) => Err(Refused {
                guard: ManuallyDrop::into_inner(guard),
                error: error.into(),
            }),
        }
    }

    /// Frees the node of a notifier that is not inserted.
    ///
    /// # Safety
    /// So it is.
    pub(super) unsafe fn free_uninserted(self) {
        let guard = ManuallyDrop::new(self);
        // SAFETY: Not inserted, and the guard is the only one to know the node.
        drop(unsafe { Box::from_raw(guard.0.as_ptr()) });
    }

    /// Has the library's worker remove the notifier, and drop it then. Until that is done it may still be called. Never waits;
    /// legal everywhere.
    pub fn remove_later(self) {
        let guard = ManuallyDrop::new(self);
        // SAFETY: Inserted; given up here, and its `work` is in no queue.
        unsafe { core_mm::on_worker(&raw mut (*guard.0.as_ptr()).work) };
    }
}

impl<N: IntervalNotifier> Deref for IntervalSubscription<N> {
    type Target = Interval;
    fn deref(&self) -> &Interval {
        // SAFETY: Inserted as long as this guard is there.
        unsafe { self.0.cast::<Interval>().as_ref() }
    }
}

impl<N: IntervalNotifier> Drop for IntervalSubscription<N> {
    fn drop(&mut self) {
        let node = self.0.as_ptr();
        at(Kind::MMU_NOTIFIER_EXPLORE_REMOVE, node);
        // SAFETY: Inserted.
        match unsafe { core_mm::remove(node.cast()) } {
            // SAFETY: Removed, and nobody else knows the node.
            Ok(()) => drop(unsafe { Box::from_raw(node) }),
            // SPEC: DV-7: it would wait for the callback that drops it.
            Err(_) => Self(self.0).remove_later(),
        }
    }
}

impl<N: IntervalNotifier> fmt::Debug for IntervalSubscription<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
