//! Misuse of the core is a value that carries the rule: the core neither aborts nor reports it (DV-17).
#![expect(unsafe_code, reason = "the core's functions take C objects")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one call after the other on live objects"
)]

use core::mem::MaybeUninit;
use core::ptr;

use ::mmu_notifier::abi::mm::mm_struct;
use ::mmu_notifier::abi::notifier::{mmu_notifier as Notifier, mmu_notifier_ops};
use ::mmu_notifier::dispatch::REFERENCE;
use ::mmu_notifier::mm;
use ::mmu_notifier::report::mmu_notifier_report_kind::{
    MMU_NOTIFIER_REPORT_BUG, MMU_NOTIFIER_REPORT_WARN,
};
use ::mmu_notifier::report::{Error, Misuse, Result, count};

/// The misuse that a call came back with.
fn misuse<T>(result: Result<T>) -> Misuse {
    match result {
        Err(Error::Misuse(misuse)) => misuse,
        Err(Error::Errno(errno)) => panic!("errno {errno}"),
        Ok(_) => panic!("no error"),
    }
}

/// Its rule, and whether the C face would abort.
fn verdict<T>(result: Result<T>) -> (&'static str, bool) {
    let misuse = misuse(result);
    (misuse.rule().to_str().expect("ASCII"), misuse.is_bug())
}

/// An address space whose users are gone, kept by one reference.
fn without_users() -> *mut mm_struct {
    let mm = mm::mm_alloc();
    // SAFETY: Fresh from `mm_alloc`, with one user, who goes.
    let ended = unsafe { mm::mmgrab(mm).and_then(|()| mm::mmput(mm)) };
    ended.expect("the only user");
    mm
}

unsafe extern "C" fn alloc_null(_mm: *mut mm_struct) -> *mut Notifier {
    ptr::null_mut()
}

/// Ops of which only `alloc_notifier` is set.
fn ops_of_alloc_null() -> mmu_notifier_ops {
    // SAFETY: All members are optional functions, for which zero is None.
    let empty = unsafe { MaybeUninit::<mmu_notifier_ops>::zeroed().assume_init() };
    mmu_notifier_ops {
        alloc_notifier: Some(alloc_null),
        ..empty
    }
}

/// One test, so that nobody else counts reports meanwhile.
#[test]
fn dv_17_misuse_is_a_value_that_carries_the_rule() {
    let mm = mm::mm_alloc();
    let ops = ops_of_alloc_null();
    // SAFETY: All zero is a notifier that nobody has registered.
    let mut stranger = unsafe { MaybeUninit::<Notifier>::zeroed().assume_init() };
    stranger.ops = &raw const ops;
    let stranger = &raw mut stranger;
    // SAFETY: Arguments are NULL or valid; what the calls refuse they leave alone.
    unsafe {
        assert_eq!(
            verdict(mm::register(ptr::null_mut(), mm, REFERENCE)),
            ("DV-14", true)
        );
        assert_eq!(verdict(mm::mmput(ptr::null_mut())), ("DV-14", true));
        assert_eq!(verdict(mm::put(stranger)), ("GP-5", false));
        assert_eq!(verdict(mm::unregister(stranger, mm)), ("DV-9", false));
        let dead = without_users();
        assert_eq!(verdict(mm::mmput(dead)), ("ML-2", true));
        assert_eq!(
            verdict(mm::register(stranger, dead, REFERENCE)),
            ("RG-1", true)
        );

        let lock = mm::semaphore();
        lock.write_lock(mm, c"test").expect("valid");
        let refused = misuse(mm::get_locked(&raw const ops, mm, REFERENCE));
        lock.write_unlock(mm, c"test").expect("held");
        assert_eq!(refused.rule(), c"DV-14");
        let text = Error::from(refused).to_string();
        assert!(text.contains("alloc_notifier"), "{text}");
        assert!(text.contains("mmu_notifier_get_locked"), "{text}");
    }
    assert_eq!(count(MMU_NOTIFIER_REPORT_BUG), 0);
    assert_eq!(count(MMU_NOTIFIER_REPORT_WARN), 0);
}
