//! Notifiers of a whole address space: register, unregister (SPEC 3.8, 3.9).
//!
//! A registered notifier carries a stamp in its `rcu.func`, which drivers never look at, until it is unregistered or
//! its last put is made; then the word is the worker's (`srcu::Worker`). That is how a second unregister is told from
//! the first one after mm exit has unlinked the notifier (DV-9).

use core::ffi::{CStr, c_void};

use super::lifetime::{count, has_users, mmdrop};
use super::subscriptions::{self, Subscriptions};
use super::walk::Walk;
use super::watched::WATCHED;
use super::worker::WORKER;
use super::{argument, calls, locks, registry};
use crate::abi::mm::mm_struct;
use crate::abi::notifier::mmu_notifier;
use crate::chain::{self, Held};
use crate::dispatch::{self, Abi, NotifierOps};
use crate::report::{
    DV_7, DV_9_REGISTER, DV_9_UNREGISTER, Error, RG_1_LOCK, RG_1_USERS, RG_2, Result, UN_1,
};
use crate::sync::{AtomicUsize, Ordering};
use crate::thread::{self};

/// "mmunotif": with the number of forks up to this process, a word that no ticket and no function has.
const REGISTERED: usize = 0x6d6d_756e_6f74_6966;

/// Forks between the first process and this one.
static FORKS: AtomicUsize = AtomicUsize::new(0);

/// The stamp of what is registered in this process. What was inherited has another one.
fn own_stamp() -> usize {
    // ORDERING: Relaxed: changes in a child only, while it has one thread.
    REGISTERED ^ FORKS.load(Ordering::Relaxed)
}

/// Is this the stamp of a registration, in this process or in one that it was forked from?
pub(super) fn is_stamp(word: usize) -> bool {
    // ORDERING: Relaxed: as above.
    word ^ REGISTERED <= FORKS.load(Ordering::Relaxed)
}

/// In a child after fork: what is registered now was inherited.
pub(super) fn after_fork_in_child() {
    // ORDERING: Relaxed: there is one thread.
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// The word of a notifier that says whether it is registered.
pub(super) unsafe fn stamp(subscription: *mut mmu_notifier) -> *mut usize {
    // SAFETY: The caller passes a valid notifier; only an address is computed.
    unsafe { (&raw mut (*subscription).rcu.func).cast() }
}

/// Registers `subscription`, whose `ops` is set, to a table of the layout `abi`: takes mmap_lock for writing.
///
/// # Errors
/// ENOMEM; EINVAL (RG-2, DV-9); DV-14; RG-1: the address space has no users.
///
/// # Safety
/// Pointers are NULL or valid; the notifier until it was unregistered or freed; the caller owns a user of `mm`.
// SPEC: RG-7 RG-8
pub unsafe fn register(
    subscription: *mut mmu_notifier,
    mm: *mut mm_struct,
    abi: Abi,
) -> Result<()> {
    const FUNCTION: &CStr = c"mmu_notifier_register";
    argument(subscription, FUNCTION)?;
    argument(mm, FUNCTION)?;
    // SAFETY: The caller's promise.
    unsafe { with_mmap_lock(mm, FUNCTION, || add(subscription, mm, abi, FUNCTION)) }?;
    calls::wait_after_register(mm);
    Ok(())
}

/// As [`register`], with mmap_lock held for writing by the caller.
///
/// # Errors
/// As [`register`].
///
/// # Safety
/// As [`register`].
// SPEC: RG-1
pub unsafe fn register_locked(
    subscription: *mut mmu_notifier,
    mm: *mut mm_struct,
    abi: Abi,
) -> Result<()> {
    const FUNCTION: &CStr = c"__mmu_notifier_register";
    argument(subscription, FUNCTION)?;
    argument(mm, FUNCTION)?;
    // SAFETY: The caller's promise.
    unsafe {
        if !locks::is_write_locked(mm) {
            RG_1_LOCK.broken_by(FUNCTION).about(mm.cast()).report();
        }
        add(subscription, mm, abi, FUNCTION)?;
    }
    calls::wait_after_register(mm);
    Ok(())
}

/// Runs `act` with mmap_lock held for writing.
pub(super) unsafe fn with_mmap_lock<T>(
    mm: *mut mm_struct,
    function: &'static CStr,
    act: impl FnOnce() -> Result<T>,
) -> Result<T> {
    // SAFETY: The caller passes a valid mm.
    unsafe {
        locks::semaphore().write_lock(mm, function)?;
        let result = act();
        warn_only(locks::semaphore().write_unlock(mm, function));
        result
    }
}

/// Registers a notifier. mmap_lock is held; the reverse-map lock is taken here.
// SPEC: RG-6
pub(super) unsafe fn add(
    subscription: *mut mmu_notifier,
    mm: *mut mm_struct,
    abi: Abi,
    function: &'static CStr,
) -> Result<()> {
    // SAFETY: The caller passes valid objects.
    let ops = unsafe { (*subscription).ops };
    argument(ops, function)?;
    // SAFETY: As above.
    unsafe {
        expect_users(mm, function)?;
        refuse_mixed_ops(NotifierOps::new(ops.cast(), abi), ops.cast(), function)?;
        change_membership(mm, function, |subscriptions| {
            link(subscription, mm, abi, subscriptions, function)
        })
    }
}

/// Turns the interval notifiers of `mm` on. mmap_lock is held; the reverse-map lock is taken here.
// SPEC: RG-5 II-1
pub(super) unsafe fn add_itree(mm: *mut mm_struct, function: &'static CStr) -> Result<()> {
    // SAFETY: The caller passes a valid mm.
    unsafe {
        expect_users(mm, function)?;
        change_membership(mm, function, |subscriptions| {
            subscriptions.turn_on_itree();
            Ok(())
        })
    }
}

// SPEC: RG-1 ML-4
unsafe fn expect_users(mm: *mut mm_struct, function: &'static CStr) -> Result<()> {
    // SAFETY: The caller passes a valid mm.
    if unsafe { has_users(mm) } {
        return Ok(());
    }
    Err(RG_1_USERS.broken_by(function).about(mm.cast()).into())
}

// SPEC: RG-2
fn refuse_mixed_ops(
    ops: NotifierOps,
    address: *const c_void,
    function: &'static CStr,
) -> Result<()> {
    if ops.mixes_range_ops() {
        return Err(RG_2
            .broken_by(function)
            .about(address)
            .errno(libc::EINVAL)
            .into());
    }
    Ok(())
}

/// Runs `act` on the subscriptions of `mm`, made if there are none, with no pair in progress that holds a lock of DV-2.
// SPEC: RG-1 RG-3 RG-4 RG-9 DV-2 DV-4
unsafe fn change_membership(
    mm: *mut mm_struct,
    function: &'static CStr,
    act: impl FnOnce(&Subscriptions) -> Result<()>,
) -> Result<()> {
    // SAFETY: The caller passes a valid mm.
    unsafe {
        locks::rmap().write_lock(mm, function)?;
        // The users may have gone while this thread waited for the locks: nobody would call `release` any more.
        let result = expect_users(mm, function)
            .and_then(|()| make(mm))
            .and_then(act);
        warn_only(locks::rmap().write_unlock(mm, function));
        result
    }
}

/// The subscriptions of `mm`, made if there are none. The reverse-map lock is held: nobody else publishes.
unsafe fn make<'a>(mm: *mut mm_struct) -> Result<&'a Subscriptions> {
    // SAFETY: The caller passes a valid mm.
    unsafe {
        if subscriptions::of(mm).is_none() {
            let fresh = Subscriptions::allocate()?;
            registry::without_fork(|| subscriptions::publish(mm, fresh));
        }
        Ok(&*subscriptions::raw(mm))
    }
}

/// What a second fault reports does not replace the result of the call that met it.
pub(super) fn warn_only(result: Result<()>) {
    if let Err(Error::Misuse(misuse)) = result {
        misuse.report();
    }
}

/// Links a notifier and takes its reference to the mm.
// SPEC: RG-5 RG-10 DV-9
unsafe fn link(
    subscription: *mut mmu_notifier,
    mm: *mut mm_struct,
    abi: Abi,
    subscriptions: &Subscriptions,
    function: &'static CStr,
) -> Result<()> {
    let mut chain = subscriptions.chain.lock();
    if chain.contains(subscription) {
        let misuse = DV_9_REGISTER.broken_by(function).about(subscription.cast());
        return Err(misuse.errno(libc::EINVAL).into());
    }
    // SAFETY: The caller passes valid objects; the notifier is on no list.
    unsafe {
        // ORDERING: Relaxed: the caller holds a user.
        count(mm).fetch_add(1, Ordering::Relaxed);
        (*subscription).mm = mm;
        (*subscription).users = 1;
        dispatch::set_abi(subscription, abi);
        stamp(subscription).write(own_stamp());
        if calls::is_own(mm) {
            WATCHED.set_everything(true);
        }
        chain.add(subscription);
    }
    Ok(())
}

/// Ends a registration: calls `release` unless mm exit did, waits for all walks, drops the reference to `mm`.
///
/// # Errors
/// DV-14; UN-1: mm_count is not positive; DV-7: the call would wait for the callback that makes it; DV-9: not
/// registered here, ignored.
///
/// # Safety
/// Pointers are NULL or valid.
// SPEC: UN-1 UN-2 UN-3 UN-4 UN-5 UN-6 UN-7
pub unsafe fn unregister(subscription: *mut mmu_notifier, mm: *mut mm_struct) -> Result<()> {
    const FUNCTION: &CStr = c"mmu_notifier_unregister";
    argument(subscription, FUNCTION)?;
    argument(mm, FUNCTION)?;
    // SAFETY: The caller's promise.
    unsafe {
        if end_inherited(subscription, mm) {
            return Ok(());
        }
        expect_references(mm, FUNCTION)?;
        let inside = thread::inside_section();
        let take = inside.is_none();
        let Some(subscriptions) =
            subscriptions::of(mm).filter(|own| is_owed(subscription, mm, own, take))
        else {
            return Err(DV_9_UNREGISTER
                .broken_by(FUNCTION)
                .about(subscription.cast())
                .into());
        };
        if let Some(op) = inside {
            return Err(DV_7.broken_by(FUNCTION).inside(op).into());
        }
        delist(subscription, mm, subscriptions);
        chain::synchronize();
        expect_references(mm, FUNCTION)?;
        WORKER.start_if_stranded();
        mmdrop(mm)
    }
}

/// Fails if the mm that the caller has a reference to has none.
// SPEC: UN-1
unsafe fn expect_references(mm: *mut mm_struct, function: &'static CStr) -> Result<()> {
    // SAFETY: The caller passes a valid mm.
    // ORDERING: Relaxed: the registration's own reference is the caller's.
    let references = unsafe { count(mm) }.load(Ordering::Relaxed);
    if references > 0 {
        return Ok(());
    }
    let misuse = UN_1.broken_by(function).about(mm.cast());
    Err(misuse.value(references.into()).into())
}

/// Is this a notifier whose unregister is owed: listed, or unlinked by mm exit? Then, if it is to `take` it, it is the caller's
/// from now on.
// SPEC: UN-3 DV-9
unsafe fn is_owed(
    subscription: *mut mmu_notifier,
    mm: *mut mm_struct,
    subscriptions: &Subscriptions,
    take: bool,
) -> bool {
    let chain = subscriptions.chain.lock();
    // SAFETY: The caller passes a valid notifier. One that is listed was registered here; one that is not still bears the stamp
    // if mm exit unlinked it.
    unsafe {
        let here = || (*subscription).mm == mm || chain.contains(subscription);
        let owed = is_stamp(stamp(subscription).read()) && here();
        if owed && take {
            stamp(subscription).write(0);
        }
        owed
    }
}

/// Calls `release` of a notifier that is still listed, and unlinks it.
// SPEC: UN-2 UN-3 RL-6
unsafe fn delist(
    subscription: *mut mmu_notifier,
    mm: *mut mm_struct,
    subscriptions: &Subscriptions,
) {
    let section = Walk::enter(subscriptions, mm);
    // SAFETY: Registered, hence valid. Mm exit unlinks it once, for good.
    if !unsafe { chain::is_linked(subscription) } {
        return;
    }
    // SAFETY: As above.
    unsafe { section.release_one(subscription) };
    drop(section);
    // SAFETY: It was linked; mm exit may have unlinked it meanwhile.
    unsafe { unlink(&mut subscriptions.chain.lock(), subscription, mm) };
}

/// Unlinks a notifier of `mm`.
pub(super) unsafe fn unlink(
    chain: &mut Held<'_>,
    subscription: *mut mmu_notifier,
    mm: *mut mm_struct,
) {
    // SAFETY: The caller's chain is that of `mm`, and had the notifier.
    unsafe { chain.unlink(subscription) };
    if calls::is_own(mm) {
        WATCHED.set_everything(!chain.is_empty());
    }
}

/// Was this registration inherited over fork? Then it ends silently, once all of its gets are given back.
// SPEC: DV-13
pub(super) unsafe fn end_inherited(subscription: *mut mmu_notifier, mm: *mut mm_struct) -> bool {
    // SAFETY: The caller passes valid objects.
    unsafe {
        if stamp(subscription).read() == own_stamp() {
            return false;
        }
        // The same memory may have been registered anew, on the child's own mm.
        if subscriptions::of(mm).is_some_and(|own| own.chain.lock().contains(subscription)) {
            return false;
        }
        subscriptions::end_inherited(mm, |inherited| {
            let mut chain = inherited.chain.lock();
            let listed = chain.contains(subscription);
            if listed && (*subscription).users > 1 {
                (*subscription).users -= 1;
            } else if listed {
                chain.unlink(subscription);
            }
            listed
        })
    }
}
