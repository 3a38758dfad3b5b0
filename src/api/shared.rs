//! Notifiers that several parts of a driver share: get and put (SPEC 3.9).

use core::cell::Cell;
use core::ffi::c_int;
use core::fmt;
use core::mem::ManuallyDrop;
use core::ptr::{self, NonNull};

use super::callbacks::{events, shield};
use super::notifier::{Node, Table};
use super::space::warn;
use super::{AddressSpace, Kind, Mm, Notifier, Ops, Result, at};
use crate::abi::mm::mm_struct;
use crate::abi::notifier::mmu_notifier;
use crate::dispatch::REFERENCE;
use crate::mm as core_mm;
use crate::sync::Arc;

type Make<N> = Box<dyn Fn(&AddressSpace) -> core::result::Result<N, i32> + Send + Sync>;

/// What the kernel knows as a table of ops with an `alloc_notifier`: all who get from one factory on one address space share one
/// notifier.
///
/// ```
/// use mmu_notifier::api::{Factory, Mm, Notifier, Ops};
/// struct Context(u64);
/// impl Notifier for Context { const OPS: Ops = Ops::NONE; }
///
/// let factory = Factory::new(|mm| Ok(Context(mm.id())));
/// let mm = Mm::new()?;
/// let (first, second) = (factory.get(&mm)?, factory.get(&mm)?);
/// assert!(std::ptr::eq(first.notifier(), second.notifier()));
/// first.put();
/// assert_eq!(second.notifier().0, mm.id());
/// # Ok::<(), mmu_notifier::api::Error>(())
/// ```
pub struct Factory<N> {
    table: Arc<Table>,
    make: Make<N>,
}

thread_local! {
    /// The factory whose `get` the thread is in. `alloc_notifier` is told nothing but the address space.
    static GETTING: Cell<*const ()> = const { Cell::new(ptr::null()) };
}

const MAX_ERRNO: i32 = 4095;

impl<N: Notifier> Factory<N> {
    /// A factory whose notifiers `make` makes; it may fail with a positive errno. It runs under mmap_lock of the address space.
    pub fn new(
        make: impl Fn(&AddressSpace) -> core::result::Result<N, i32> + Send + Sync + 'static,
    ) -> Self {
        Self::with_ops(N::OPS, make)
    }

    /// As [`Factory::new`], with `ops` instead of [`Notifier::OPS`].
    pub fn with_ops(
        ops: Ops,
        make: impl Fn(&AddressSpace) -> core::result::Result<N, i32> + Send + Sync + 'static,
    ) -> Self {
        let mut table = Node::<N>::table(ops);
        table.alloc_notifier = Some(alloc::<N>);
        Self {
            table: Arc::new(Table(table)),
            make: Box::new(make),
        }
    }

    /// The notifier of `mm` that this factory made, counted once more; if there is none it is made and registered. Takes mmap_lock
    /// for writing unless the calling thread holds it in this way. Not from a callback.
    ///
    /// # Errors
    /// EOVERFLOW: 2^32 - 1 gets. What `make` failed with. Those of [`Mm::register`].
    // SPEC: GP-1 GP-3 GP-4
    pub fn get(&self, mm: &Mm) -> Result<Shared<N>> {
        at(Kind::MMU_NOTIFIER_EXPLORE_GET, mm.raw());
        let locked = mm.locked_for_registration(c"mmu_notifier_get")?;
        let writing = if locked {
            None
        } else {
            Some(mm.mmap_write_lock()?)
        };
        let outer = GETTING.replace(ptr::from_ref(self).cast());
        // SAFETY: Each node holds on to the table; `alloc` makes nodes that stay until they are freed; this Mm is a user.
        let outcome =
            events(|| unsafe { core_mm::get_locked(&raw const self.table.0, mm.raw(), REFERENCE) });
        GETTING.set(outer);
        drop(writing);
        // SAFETY: What has this table is a node of ours.
        let got =
            outcome.map(|got| got.map(|sub| Shared(unsafe { NonNull::new_unchecked(sub.cast()) })));
        Ok(got.or_panic()?)
    }
}

impl<N> fmt::Debug for Factory<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Factory").finish_non_exhaustive()
    }
}

unsafe extern "C" fn alloc<N: Notifier>(mm: *mut mm_struct) -> *mut mmu_notifier {
    // SAFETY: The core calls this from `get_locked`, on the thread of the `Factory<N>::get` that made the table.
    let factory = unsafe { &*GETTING.get().cast::<Factory<N>>() };
    // SAFETY: Alive while its mmap_lock is held.
    let mm = unsafe { AddressSpace::from_raw(mm) };
    match shield(Err(libc::ECANCELED), || (factory.make)(mm)) {
        Ok(notifier) => Box::into_raw(Node::new(notifier, Arc::clone(&factory.table))).cast(),
        Err(errno) => err_ptr(errno),
    }
}

/// A pointer that stands for a positive errno; EINVAL for a number that is none.
fn err_ptr(errno: c_int) -> *mut mmu_notifier {
    let valid = (1..=MAX_ERRNO).contains(&errno);
    let errno = if valid { errno } else { libc::EINVAL };
    ptr::without_provenance_mut(-(errno as isize) as usize)
}

/// One share of a notifier; given back when dropped. After the last one the notifier is dropped on the library's worker, once all
/// callbacks that are running are over; `release` is not called. Never waits.
///
/// ```compile_fail,E0382
/// # use mmu_notifier::api::{Factory, Mm, Notifier, Ops};
/// # struct Quiet;
/// # impl Notifier for Quiet { const OPS: Ops = Ops::NONE; }
/// let share = Factory::new(|_| Ok(Quiet)).get(&Mm::new()?)?;
/// share.put();
/// share.notifier(); // error: use of moved value
/// # Ok::<(), mmu_notifier::api::Error>(())
/// ```
pub struct Shared<N: Notifier>(NonNull<Node<N>>);

// SAFETY: The notifier is Send and Sync; put may be called from any thread.
unsafe impl<N: Notifier> Send for Shared<N> {}
// SAFETY: As above.
unsafe impl<N: Notifier> Sync for Shared<N> {}

impl<N: Notifier> Shared<N> {
    /// The notifier.
    pub fn notifier(&self) -> &N {
        // SAFETY: Not freed before this share is put. Only the notifier is borrowed: the rest is the core's.
        unsafe { &(*self.0.as_ptr()).notifier }
    }

    /// Gives the share back. Legal everywhere.
    // SPEC: GP-5 GP-6
    pub fn put(self) {
        drop(self);
    }
}

impl<N: Notifier> Drop for Shared<N> {
    fn drop(&mut self) {
        let share = ManuallyDrop::new(self.0);
        at(Kind::MMU_NOTIFIER_EXPLORE_PUT, share.as_ptr());
        // SAFETY: This share is given up.
        warn(unsafe { core_mm::put(share.as_ptr().cast()) });
    }
}

impl<N: Notifier> fmt::Debug for Shared<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").field(&self.0).finish()
    }
}
