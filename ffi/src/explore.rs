//! `<mmu_notifier/explore.h>`: schedule points of a driver, for the explorer.

use core::ffi::{c_char, c_uint, c_void};

use mmu_notifier::sync::point;
use mmu_notifier::sync::point::Kind;

/// A thread of a scenario.
#[repr(C)]
#[derive(Debug)]
pub struct mmu_notifier_scenario_thread {
    /// Its name in traces and schedules. NULL ends the array.
    pub name: *const c_char,
    /// What it does. Runs once in each run, on a thread of its own.
    pub run: Option<unsafe extern "C" fn()>,
}

/// What a driver that is loaded into an explorer exports under the name `mmu_notifier_scenario`.
#[repr(C)]
#[derive(Debug)]
pub struct mmu_notifier_scenario {
    /// Makes everything afresh; called before each run. May be NULL.
    pub setup: Option<unsafe extern "C" fn()>,
    /// Frees what `setup` made; called after each run, unless threads are left that sleep for ever. May be NULL.
    pub teardown: Option<unsafe extern "C" fn()>,
    /// Called after each step, while all threads stand still: returns what is wrong, or NULL. It must not wait. May be NULL.
    pub check: Option<unsafe extern "C" fn() -> *const c_char>,
    /// Stands for all that later steps depend on, what the threads remember included: states of the same number are not
    /// explored again. May be NULL.
    pub state: Option<unsafe extern "C" fn() -> u64>,
    /// The threads; the last one has no name.
    pub threads: *const mmu_notifier_scenario_thread,
}

/// The calling thread is about to do what `kind`, an enum mmu_notifier_explore_kind, says; `address` is a key, and is not
/// dereferenced. If the thread belongs to a scenario, others may run before this returns; otherwise nothing happens.
#[unsafe(no_mangle)]
pub extern "C" fn mmu_notifier_explore_point(kind: c_uint, address: *const c_void) {
    let known = Kind::ALL.get(kind as usize).copied();
    point::point(known.unwrap_or(Kind::MMU_NOTIFIER_EXPLORE_POINT), address);
}
