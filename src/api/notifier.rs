//! Notifiers of a whole address space: register, unregister (SPEC 3.8, 3.10).

use core::ffi::{c_int, c_ulong};
use core::fmt;
use core::mem::{ManuallyDrop, offset_of};
use core::ops::BitOr;
use core::ptr::{self, NonNull};

use super::callbacks::{Outcome, events, shield};
use super::space::warn;
use super::{AddressSpace, Kind, Lock, Mm, Mode, Range, Refused, Result, at};
use crate::abi::mm::mm_struct;
use crate::abi::notifier::{mmu_notifier, mmu_notifier_ops, mmu_notifier_range};
use crate::abi::types::{callback_head, hlist_node, pte_t};
use crate::dispatch::REFERENCE;
use crate::mm as core_mm;
use crate::report;
use crate::sync::Arc;

/// Which ops a notifier has. The contract treats an op that is absent otherwise than one that does nothing: a start that fails is
/// worse where there is an end (HS-5), and secondary TLBs exclude range ops (RG-2).
///
/// ```
/// use mmu_notifier::api::Ops;
/// const OPS: Ops = Ops::INVALIDATE_RANGE_START.and(Ops::RELEASE);
/// assert!(OPS.contains(Ops::RELEASE) && !OPS.contains(Ops::INVALIDATE_RANGE_END));
/// assert_eq!(OPS, Ops::RELEASE | Ops::INVALIDATE_RANGE_START);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ops(u8);

impl Ops {
    /// None.
    pub const NONE: Self = Self(0);
    /// [`Notifier::release`].
    pub const RELEASE: Self = Self(1);
    /// [`Notifier::clear_flush_young`].
    pub const CLEAR_FLUSH_YOUNG: Self = Self(1 << 1);
    /// [`Notifier::clear_young`].
    pub const CLEAR_YOUNG: Self = Self(1 << 2);
    /// [`Notifier::test_young`].
    pub const TEST_YOUNG: Self = Self(1 << 3);
    /// [`Notifier::change_pte`].
    pub const CHANGE_PTE: Self = Self(1 << 4);
    /// [`Notifier::invalidate_range_start`].
    pub const INVALIDATE_RANGE_START: Self = Self(1 << 5);
    /// [`Notifier::invalidate_range_end`].
    pub const INVALIDATE_RANGE_END: Self = Self(1 << 6);
    /// [`Notifier::arch_invalidate_secondary_tlbs`].
    pub const ARCH_INVALIDATE_SECONDARY_TLBS: Self = Self(1 << 7);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Has it all of `other`?
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Ops {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        self.and(other)
    }
}

/// A refusal of `invalidate_range_start`: -EAGAIN, for a range that is not blockable. Other codes are warned of (HS-5).
///
/// ```
/// use mmu_notifier::api::Refusal;
/// assert_eq!(Refusal::AGAIN.code(), -11);
/// assert!(Refusal::new(0).is_none(), "0 is consent");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal(c_int);

impl Refusal {
    /// -EAGAIN.
    pub const AGAIN: Self = Self(-libc::EAGAIN);

    /// Another answer than 0, as C gives it: a negative errno.
    pub const fn new(code: i32) -> Option<Self> {
        if code == 0 { None } else { Some(Self(code)) }
    }

    /// The answer as C gives it.
    pub const fn code(self) -> i32 {
        self.0
    }
}

/// A subscriber to a whole address space. Its methods are the ops of the contract, and those in [`Notifier::OPS`] are called;
/// they may run on any thread, and several at a time. SPEC 4.1 says what each may do.
///
/// ```
/// use mmu_notifier::api::{Change, Event, Mm, Notifier, Ops, Range, Refusal};
/// use std::sync::Mutex;
///
/// #[derive(Default)]
/// struct Log(Mutex<Vec<String>>);
///
/// impl Notifier for Log {
///     const OPS: Ops = Ops::INVALIDATE_RANGE_START.and(Ops::INVALIDATE_RANGE_END);
///     fn invalidate_range_start(&self, range: &Range<'_>) -> Result<(), Refusal> {
///         self.0.lock().unwrap().push(format!("start {range:?}"));
///         Ok(())
///     }
///     fn invalidate_range_end(&self, range: &Range<'_>) {
///         self.0.lock().unwrap().push(format!("end {range:?}"));
///     }
/// }
///
/// let mm = Mm::new()?;
/// let log = mm.register(Log::default())?;
/// mm.invalidate_range_start(Change::new(0..0x1000, Event::CLEAR))?.end();
/// let log = log.unregister()?;
/// assert_eq!(log.0.into_inner().unwrap(), ["start CLEAR [0x0, 0x1000)", "end CLEAR [0x0, 0x1000)"]);
/// # Ok::<(), mmu_notifier::api::Error>(())
/// ```
pub trait Notifier: Send + Sync + 'static {
    /// The ops that are implemented. A method that is not in here is never called.
    const OPS: Ops;

    /// The address space ends, or the notifier is being unregistered. May sleep; may run twice, even at the same time (RL-6).
    fn release(&self, mm: &AddressSpace) {
        let _ = mm;
    }

    /// Was `[start, end)` accessed since the last time? Clears that, and flushes it. Must not sleep. Not 0 for yes.
    fn clear_flush_young(&self, mm: &AddressSpace, start: u64, end: u64) -> i32 {
        let _ = (mm, start, end);
        0
    }

    /// As [`Notifier::clear_flush_young`], without the flush.
    fn clear_young(&self, mm: &AddressSpace, start: u64, end: u64) -> i32 {
        let _ = (mm, start, end);
        0
    }

    /// Was the page at `address` accessed? Must not sleep. Not 0 for yes.
    fn test_young(&self, mm: &AddressSpace, address: u64) -> i32 {
        let _ = (mm, address);
        0
    }

    /// The entry of the page at `address` becomes `pte`. Must not sleep.
    fn change_pte(&self, mm: &AddressSpace, address: u64, pte: u64) {
        let _ = (mm, address, pte);
    }

    /// The range is about to change. May sleep if it is blockable; otherwise it may refuse.
    ///
    /// # Errors
    /// [`Refusal::AGAIN`], for a range that is not blockable.
    fn invalidate_range_start(&self, range: &Range<'_>) -> core::result::Result<(), Refusal> {
        let _ = range;
        Ok(())
    }

    /// The range has changed. May sleep if it is blockable.
    fn invalidate_range_end(&self, range: &Range<'_>) {
        let _ = range;
    }

    /// A TLB that shares the CPU's page table must drop `[start, end)`. Must not sleep. Excludes the range ops (RG-2).
    fn arch_invalidate_secondary_tlbs(&self, mm: &AddressSpace, start: u64, end: u64) {
        let _ = (mm, start, end);
    }

    /// The last put was made, and all callbacks of that time are over: frees the notifier, on the library's worker. Must not sleep.
    fn free_notifier(self)
    where
        Self: Sized,
    {
        drop(self);
    }
}

/// What the core links: a notifier with its table of ops.
///
/// # Invariants
/// It is on the heap, and pinned there from its registration until `free` or the end of `unregister`.
#[repr(C)]
pub(super) struct Node<N> {
    raw: mmu_notifier,
    pub(super) notifier: N,
    /// Keeps the table: this registration's own, or that of the factory, by which a get finds it.
    pub(super) table: Arc<Table>,
}

/// A table of ops.
pub(super) struct Table(pub(super) mmu_notifier_ops);

// SAFETY: Functions and nothing else.
unsafe impl Send for Table {}
// SAFETY: As above.
unsafe impl Sync for Table {}

impl<N: Notifier> Node<N> {
    pub(super) fn new(notifier: N, table: Arc<Table>) -> Box<Self> {
        let raw = mmu_notifier {
            hlist: hlist_node {
                next: ptr::null_mut(),
                pprev: ptr::null_mut(),
            },
            ops: &raw const table.0,
            mm: ptr::null_mut(),
            rcu: callback_head {
                next: ptr::null_mut(),
                func: None,
            },
            users: 0,
        };
        Box::new(Self {
            raw,
            notifier,
            table,
        })
    }

    /// The notifier that a callback is for.
    ///
    /// # Safety
    /// `subscription` is the first field of a node that is registered.
    unsafe fn of<'a>(subscription: *mut mmu_notifier) -> &'a N {
        const { assert!(offset_of!(Self, raw) == 0) };
        // SAFETY: The caller's promise. Only the notifier is borrowed: the rest is the core's.
        unsafe { &(*subscription.cast::<Self>()).notifier }
    }

    /// A table with those of our functions that `ops` names.
    pub(super) fn table(ops: Ops) -> mmu_notifier_ops {
        let has = |op| ops.contains(op);
        mmu_notifier_ops {
            release: has(Ops::RELEASE).then_some(release::<N>),
            clear_flush_young: has(Ops::CLEAR_FLUSH_YOUNG).then_some(clear_flush_young::<N>),
            clear_young: has(Ops::CLEAR_YOUNG).then_some(clear_young::<N>),
            test_young: has(Ops::TEST_YOUNG).then_some(test_young::<N>),
            change_pte: has(Ops::CHANGE_PTE).then_some(change_pte::<N>),
            invalidate_range_start: has(Ops::INVALIDATE_RANGE_START).then_some(range_start::<N>),
            invalidate_range_end: has(Ops::INVALIDATE_RANGE_END).then_some(range_end::<N>),
            arch_invalidate_secondary_tlbs: has(Ops::ARCH_INVALIDATE_SECONDARY_TLBS)
                .then_some(arch_invalidate_secondary_tlbs::<N>),
            alloc_notifier: None,
            free_notifier: Some(free::<N>),
        }
    }
}

// The functions of the tables. What they are called with: a node of ours that is registered, an mm and a range that are valid.

/// The functions of ops that take an mm and numbers, with the answer of one that panics.
macro_rules! functions_of_mm {
    ($($op:ident($($number:ident),*) -> $answer:ty, else $otherwise:expr;)*) => {$(
        unsafe extern "C" fn $op<N: Notifier>(
            sub: *mut mmu_notifier,
            mm: *mut mm_struct,
            $($number: c_ulong),*
        ) -> $answer {
            // SAFETY: As said above.
            let (notifier, mm) = unsafe { (Node::<N>::of(sub), AddressSpace::from_raw(mm)) };
            shield($otherwise, || notifier.$op(mm, $($number),*))
        }
    )*};
}

functions_of_mm! {
    release() -> (), else ();
    clear_flush_young(start, end) -> c_int, else 0;
    clear_young(start, end) -> c_int, else 0;
    test_young(address) -> c_int, else 0;
    arch_invalidate_secondary_tlbs(start, end) -> (), else ();
}

unsafe extern "C" fn change_pte<N: Notifier>(
    sub: *mut mmu_notifier,
    mm: *mut mm_struct,
    address: c_ulong,
    pte: pte_t,
) {
    // SAFETY: As said above.
    let (notifier, mm) = unsafe { (Node::<N>::of(sub), AddressSpace::from_raw(mm)) };
    shield((), || notifier.change_pte(mm, address, pte.pte));
}

unsafe extern "C" fn range_start<N: Notifier>(
    sub: *mut mmu_notifier,
    range: *const mmu_notifier_range,
) -> c_int {
    // SAFETY: As said above.
    let (notifier, range) = unsafe { (Node::<N>::of(sub), Range::from_raw(range)) };
    let answer = || notifier.invalidate_range_start(&range);
    shield(Ok(()), answer).map_or_else(Refusal::code, |()| 0)
}

unsafe extern "C" fn range_end<N: Notifier>(
    sub: *mut mmu_notifier,
    range: *const mmu_notifier_range,
) {
    // SAFETY: As said above.
    let (notifier, range) = unsafe { (Node::<N>::of(sub), Range::from_raw(range)) };
    shield((), || notifier.invalidate_range_end(&range));
}

/// Frees a node after its last put.
unsafe extern "C" fn free<N: Notifier>(sub: *mut mmu_notifier) {
    // SAFETY: The last put was made, and all walks are over: nobody else knows the node, which was a box.
    let node = unsafe { Box::from_raw(sub.cast::<Node<N>>()) };
    shield((), || node.notifier.free_notifier());
}

/// A registered notifier. The registration ends when this is dropped: as [`Subscription::unregister`] does, or, inside a callback
/// of a notifier, which must not wait, as [`Subscription::put`] does. It keeps the struct of the address space, not its users.
///
/// ```compile_fail,E0382
/// # use mmu_notifier::api::{Mm, Notifier, Ops};
/// # struct Quiet;
/// # impl Notifier for Quiet { const OPS: Ops = Ops::NONE; }
/// let mm = Mm::new()?;
/// let subscription = mm.register(Quiet)?;
/// subscription.put();
/// subscription.notifier(); // error: use of moved value
/// # Ok::<(), mmu_notifier::api::Error>(())
/// ```
pub struct Subscription<N: Notifier>(NonNull<Node<N>>);

// SAFETY: The notifier is Send and Sync; the rest may be called from any thread.
unsafe impl<N: Notifier> Send for Subscription<N> {}
// SAFETY: As above.
unsafe impl<N: Notifier> Sync for Subscription<N> {}

impl Mm {
    /// Registers a notifier, first in the order of calls. Takes mmap_lock for writing unless the calling thread holds it in this
    /// way, and waits for ranges that hold a lock of DV-2. Not from a callback.
    ///
    /// # Errors
    /// ENOMEM. RG-2 (EINVAL): secondary TLBs together with a range op. ML-5: the calling thread holds mmap_lock for reading, or
    /// the reverse-map lock.
    // SPEC: RG-1 RG-8
    pub fn register<N: Notifier>(&self, notifier: N) -> Result<Subscription<N>> {
        self.register_with(N::OPS, notifier)
    }

    /// As [`Mm::register`], for a notifier whose ops are known only now: `ops` instead of [`Notifier::OPS`].
    ///
    /// # Errors
    /// As [`Mm::register`].
    ///
    /// ```
    /// use mmu_notifier::api::{Mm, Notifier, Ops};
    /// struct Any;
    /// impl Notifier for Any {
    ///     const OPS: Ops = Ops::ARCH_INVALIDATE_SECONDARY_TLBS.and(Ops::INVALIDATE_RANGE_END);
    /// }
    /// let mm = Mm::new()?;
    /// assert_eq!(mm.register(Any).unwrap_err().rule(), Some("RG-2"));
    /// mm.register_with(Ops::INVALIDATE_RANGE_END, Any)?.unregister()?;
    /// # Ok::<(), mmu_notifier::api::Error>(())
    /// ```
    pub fn register_with<N: Notifier>(&self, ops: Ops, notifier: N) -> Result<Subscription<N>> {
        at(Kind::MMU_NOTIFIER_EXPLORE_REGISTER, self.raw());
        let locked = self.locked_for_registration(c"mmu_notifier_register")?;
        let node = Node::new(notifier, Arc::new(Table(Node::<N>::table(ops))));
        let node = Box::into_raw(node);
        // SAFETY: A fresh node, which stays until its registration is over; this Mm is a user.
        let result = unsafe {
            let (subscription, mm) = (node.cast::<mmu_notifier>(), self.raw());
            if locked {
                core_mm::register_locked(subscription, mm, REFERENCE)
            } else {
                core_mm::register(subscription, mm, REFERENCE)
            }
        };
        match result {
            // SAFETY: Comes from a box.
            Ok(()) => Ok(Subscription(unsafe { NonNull::new_unchecked(node) })),
            Err(error) => {
                // SAFETY: Not registered, so ours again.
                drop(unsafe { Box::from_raw(node) });
                Err(error.into())
            }
        }
    }

    /// Does the calling thread hold what a registration takes: mmap_lock for writing?
    ///
    /// # Errors
    /// ML-5: it holds mmap_lock for reading, or the reverse-map lock, and the registration would wait for it.
    pub(super) fn locked_for_registration(
        &self,
        function: &'static core::ffi::CStr,
    ) -> Result<bool> {
        self.refuse_own_lock(Lock::Rmap, function)?;
        let locked = self.held_mode(Lock::Mmap) == Some(Mode::Write);
        if !locked {
            self.refuse_own_lock(Lock::Mmap, function)?;
        }
        Ok(locked)
    }
}

impl<N: Notifier> Subscription<N> {
    /// The notifier.
    pub fn notifier(&self) -> &N {
        // SAFETY: Registered as long as this guard is there. Only the notifier is borrowed: the rest is the core's.
        unsafe { &(*self.0.as_ptr()).notifier }
    }

    /// Ends the registration: calls `release`, unless the end of the address space did, and waits until every callback of every
    /// notifier that is running now is over. Sleeps. Not under a lock that a callback takes.
    ///
    /// # Errors
    /// DV-7: from a callback of a notifier. The registration stays.
    // SPEC: UN-2 UN-4 UN-6
    pub fn unregister(self) -> core::result::Result<N, Refused<Self>> {
        let guard = ManuallyDrop::new(self);
        let outcome = guard.end().map(|result| match result {
            // SAFETY: The registration is over, and nobody else knows the node.
            Ok(()) => Ok(unsafe { Box::from_raw(guard.0.as_ptr()) }.notifier),
            Err(error) => Err(Refused {
                guard: ManuallyDrop::into_inner(guard),
                error: error.into(),
            }),
        });
        outcome.or_panic()
    }

    fn end(&self) -> Outcome<report::Result<()>> {
        let raw = self.0.as_ptr().cast::<mmu_notifier>();
        at(Kind::MMU_NOTIFIER_EXPLORE_UNREGISTER, raw);
        // SAFETY: Registered; the registration keeps the mm.
        events(|| unsafe { core_mm::unregister(raw, (*raw).mm) })
    }

    /// Ends the registration without a wait: no callback begins after all that are running now are over, and then the notifier is
    /// dropped, on the library's worker. `release` is not called. Legal everywhere.
    // SPEC: GP-6 GP-7 GP-8
    pub fn put(self) {
        let guard = ManuallyDrop::new(self);
        at(Kind::MMU_NOTIFIER_EXPLORE_PUT, guard.0.as_ptr());
        // SAFETY: Registered, and given up here.
        warn(unsafe { core_mm::put(guard.0.as_ptr().cast()) });
    }
}

impl<N: Notifier> Drop for Subscription<N> {
    fn drop(&mut self) {
        let node = self.0.as_ptr();
        let outcome = self.end().map(|result| match result {
            // SAFETY: The registration is over, and nobody else knows the node.
            Ok(()) => drop(unsafe { Box::from_raw(node) }),
            // SPEC: DV-7: it would wait for the callback that drops it.
            // SAFETY: Still registered, and given up here.
            Err(_) => warn(unsafe { core_mm::put(node.cast()) }),
        });
        outcome.or_panic();
    }
}

impl<N: Notifier> fmt::Debug for Subscription<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Subscription").field(&self.0).finish()
    }
}
