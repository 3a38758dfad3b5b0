// SPDX-License-Identifier: MIT OR Apache-2.0
//! liburcu's flavours, as c/urcu.h describes them. None if liburcu-dev could not be had.

#[cfg(urcu)]
use std::ffi::{CStr, c_char};
use std::ffi::{c_ulong, c_void};

/// `struct urcu` of c/urcu.h.
#[cfg(urcu)]
#[repr(C)]
struct Table {
    name: *const c_char,
    empty: unsafe extern "C" fn(c_ulong) -> c_ulong,
    call: unsafe extern "C" fn(c_ulong) -> c_ulong,
    nested: unsafe extern "C" fn(c_ulong) -> c_ulong,
    synchronize: unsafe extern "C" fn(c_ulong) -> c_ulong,
    attach: unsafe extern "C" fn(),
    detach: unsafe extern "C" fn(),
}

#[cfg(urcu)]
// SAFETY: A table of functions; it never changes.
unsafe impl Sync for Table {}

#[cfg(urcu)]
unsafe extern "C" {
    static urcu_memb: Table;
    static urcu_mb: Table;
    static urcu_bp: Table;
    static urcu_qsbr: Table;
    fn urcu_burst(heads: *mut c_void, n: c_ulong);
    fn urcu_settle();
}

/// A flavour. Loops run on threads between `attach` and `detach`.
#[derive(Clone, Copy)]
pub(crate) struct Flavour {
    #[cfg(urcu)]
    table: &'static Table,
}

#[cfg(urcu)]
impl Flavour {
    pub(crate) fn all() -> Vec<Self> {
        // SAFETY: Tables that never change.
        unsafe { [&urcu_memb, &urcu_mb, &urcu_bp, &urcu_qsbr] }
            .map(|table| Self { table })
            .into()
    }

    pub(crate) fn name(self) -> String {
        // SAFETY: A literal.
        let name = unsafe { CStr::from_ptr(self.table.name) };
        format!("liburcu {}", name.to_string_lossy())
    }

    pub(crate) fn empty(self, n: u64) {
        // SAFETY: The thread is attached.
        unsafe { (self.table.empty)(n) };
    }

    pub(crate) fn call(self, n: u64) {
        // SAFETY: As above.
        let calls = unsafe { (self.table.call)(n) };
        assert_eq!(calls, n);
    }

    pub(crate) fn nested(self, n: u64) {
        // SAFETY: As above.
        let calls = unsafe { (self.table.nested)(n) };
        assert_eq!(calls, n);
    }

    pub(crate) fn synchronize(self, n: u64) {
        // SAFETY: As above, and no section is open on it.
        unsafe { (self.table.synchronize)(n) };
    }

    pub(crate) fn attach(self) {
        // SAFETY: Once on a thread.
        unsafe { (self.table.attach)() };
    }

    pub(crate) fn detach(self) {
        // SAFETY: The thread is attached.
        unsafe { (self.table.detach)() };
    }
}

#[cfg(not(urcu))]
impl Flavour {
    pub(crate) fn all() -> Vec<Self> {
        Vec::new()
    }

    pub(crate) fn name(self) -> String {
        String::new()
    }

    pub(crate) fn empty(self, _: u64) {}

    pub(crate) fn call(self, _: u64) {}

    pub(crate) fn nested(self, _: u64) {}

    pub(crate) fn synchronize(self, _: u64) {}

    pub(crate) fn attach(self) {}

    pub(crate) fn detach(self) {}
}

/// `call_rcu` on each of these heads of two words.
pub(crate) struct Burst(Vec<[*mut c_void; 2]>);

impl Burst {
    pub(crate) fn new(count: usize) -> Self {
        Self(vec![[std::ptr::null_mut(); 2]; count])
    }

    pub(crate) fn call(&mut self) {
        let count = self.0.len() as c_ulong;
        #[cfg(urcu)]
        // SAFETY: So many heads; `settle` follows before they are used again.
        unsafe {
            urcu_burst(self.0.as_mut_ptr().cast(), count);
        }
        let _ = count;
    }

    pub(crate) fn settle(&mut self) {
        #[cfg(urcu)]
        // SAFETY: No section is open on this thread.
        unsafe {
            urcu_settle();
        }
    }
}
