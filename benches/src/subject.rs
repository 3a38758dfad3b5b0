// SPDX-License-Identifier: MIT OR Apache-2.0
//! The implementations, as c/subject.h describes them: the library, linked in and loaded, and what it is measured against.
//!
//! Everything unsafe about them is here: an `Mm`, a `Set`, a `Crowd` or a `Burst` belongs to the implementation that made it.
//! Invariant: a loop's count of callbacks is checked, so a candidate that skips its work cannot win.

use std::ffi::{CStr, c_ulong, c_void};
use std::path::Path;
use std::ptr;

type Object = *mut c_void;

/// `struct subject` of c/subject.h.
#[repr(C)]
pub(crate) struct Table {
    mm_new: unsafe extern "C" fn(c_ulong) -> Object,
    mm_free: unsafe extern "C" fn(Object),
    pairs: unsafe extern "C" fn(Object, c_ulong, c_ulong) -> c_ulong,
    young: unsafe extern "C" fn(Object, c_ulong, c_ulong) -> c_ulong,
    bare: unsafe extern "C" fn(Object, c_ulong, c_ulong) -> c_ulong,
    crowd_new: unsafe extern "C" fn(c_ulong) -> Object,
    crowd_free: unsafe extern "C" fn(Object),
    crowd_pairs: unsafe extern "C" fn(Object, c_ulong) -> c_ulong,
    set_new: unsafe extern "C" fn(c_ulong) -> Object,
    set_free: unsafe extern "C" fn(Object),
    set_pairs: unsafe extern "C" fn(Object, c_ulong, c_ulong, c_ulong, c_ulong) -> c_ulong,
    set_updates: unsafe extern "C" fn(Object, c_ulong, c_ulong) -> c_ulong,
    set_reads: unsafe extern "C" fn(Object, c_ulong) -> c_ulong,
    section_empty: unsafe extern "C" fn(c_ulong) -> c_ulong,
    section_call: unsafe extern "C" fn(c_ulong) -> c_ulong,
    section_nested: unsafe extern "C" fn(c_ulong) -> c_ulong,
    synchronize: Option<unsafe extern "C" fn(c_ulong) -> c_ulong>,
    synchronize_rcu: Option<unsafe extern "C" fn(c_ulong) -> c_ulong>,
    burst_new: Option<unsafe extern "C" fn(c_ulong) -> Object>,
    burst_free: Option<unsafe extern "C" fn(Object)>,
    burst_puts: Option<unsafe extern "C" fn(Object) -> c_ulong>,
    burst_settle: Option<unsafe extern "C" fn(Object)>,
    entry: *const c_void,
}

// SAFETY: A table of functions; it never changes.
unsafe impl Sync for Table {}

unsafe extern "C" {
    static static_subject: Table;
    static standin_subject: Table;
    static floor_subject: Table;
    #[cfg(kernel_tree)]
    static kernel_subject: Table;
}

/// One implementation.
#[derive(Clone, Copy)]
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    table: &'static Table,
}

pub(crate) const STATIC: &str = "library, static";
pub(crate) const SHARED: &str = "library, shared";
pub(crate) const STAND_IN: &str = "stand-in";
pub(crate) const KERNEL_TREE: &str = "stand-in, kernel's tree";
pub(crate) const FLOOR: &str = "no protection";
pub(crate) const BARE: &str = "bare callbacks";

pub(crate) struct Subjects {
    pub(crate) library: Subject,
    pub(crate) shared: Subject,
    pub(crate) stand_in: Subject,
    pub(crate) floor: Subject,
    pub(crate) kernel_tree: Option<Subject>,
}

impl Subjects {
    /// # Panics
    /// If the plug-in's entry points do not come from the shared library.
    pub(crate) fn load() -> Self {
        let path = Path::new(env!("BENCH_OUT")).join("libdriver.so");
        // SAFETY: The plug-in and the library that it needs have no initialisers but the library's own.
        let plug_in = unsafe { libloading::Library::new(&path) }.expect("the plug-in loads");
        // SAFETY: The symbol has this type (c/loops.c).
        let table: &'static Table = unsafe {
            &**plug_in
                .get::<*const Table>(b"shared_subject")
                .expect("its table")
        };
        std::mem::forget(plug_in);
        let from = object_of(table.entry);
        assert!(
            from.contains("libmmu_notifier.so"),
            "the plug-in calls {from}"
        );
        // SAFETY: Tables that never change, here and below.
        let [library, stand_in, floor] =
            unsafe { [&static_subject, &standin_subject, &floor_subject] };
        assert!(!object_of(library.entry).contains("libmmu_notifier.so"));
        Self {
            library: Subject { name: STATIC, table: library },
            shared: Subject { name: SHARED, table },
            stand_in: Subject { name: STAND_IN, table: stand_in },
            floor: Subject { name: FLOOR, table: floor },
            #[cfg(kernel_tree)]
            // SAFETY: As above.
            kernel_tree: Some(Subject { name: KERNEL_TREE, table: unsafe { &kernel_subject } }),
            #[cfg(not(kernel_tree))]
            kernel_tree: None,
        }
    }

    /// The stand-in first, to which tables give ratios.
    pub(crate) fn with_intervals(&self) -> Vec<Subject> {
        let mut all = vec![self.stand_in, self.library, self.shared];
        all.extend(self.kernel_tree);
        all
    }
}

/// The file that an address comes from.
fn object_of(address: *const c_void) -> String {
    // SAFETY: All zero is a value of the struct.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: The struct is filled in; the string lives as long as the object is loaded.
    unsafe {
        if libc::dladdr(address, &raw mut info) == 0 || info.dli_fname.is_null() {
            return String::new();
        }
        CStr::from_ptr(info.dli_fname)
            .to_string_lossy()
            .into_owned()
    }
}

macro_rules! owned {
    ($(#[$doc:meta])* $name:ident, $free:ident) => {
        $(#[$doc])*
        pub(crate) struct $name {
            subject: Subject,
            object: Object,
        }
        // SAFETY: The loops may run on two threads, with different numbers of `thread` (c/subject.h).
        unsafe impl Sync for $name {}
        // SAFETY: No thread owns it.
        unsafe impl Send for $name {}
        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: The subject made it, and nobody uses it any more.
                unsafe { (self.subject.table.$free)(self.object) }
            }
        }
    };
}

owned!(
    /// An mm with notifiers.
    Mm,
    mm_free
);
owned!(
    /// An mm with intervals.
    Set,
    set_free
);
owned!(
    /// Many mms.
    Crowd,
    crowd_free
);

/// Where a query goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Random,
    /// One of 64 places, all in the first caches.
    Hot,
}

impl Subject {
    pub(crate) fn mm(self, notifiers: u64) -> Mm {
        // SAFETY: It may be called at any time, as all that make something.
        let object = unsafe { (self.table.mm_new)(notifiers) };
        Mm {
            subject: self,
            object,
        }
    }

    pub(crate) fn set(self, count: u64) -> Set {
        // SAFETY: See `mm`.
        let object = unsafe { (self.table.set_new)(count) };
        Set {
            subject: self,
            object,
        }
    }

    pub(crate) fn crowd(self, mms: u64) -> Crowd {
        // SAFETY: See `mm`.
        let object = unsafe { (self.table.crowd_new)(mms) };
        Crowd {
            subject: self,
            object,
        }
    }

    pub(crate) fn section_empty(self, n: u64) {
        // SAFETY: Sections may be entered anywhere.
        unsafe { (self.table.section_empty)(n) };
    }

    pub(crate) fn section_call(self, n: u64) {
        // SAFETY: As above.
        let calls = unsafe { (self.table.section_call)(n) };
        assert_eq!(calls, n);
    }

    pub(crate) fn section_nested(self, n: u64) {
        // SAFETY: As above.
        let calls = unsafe { (self.table.section_nested)(n) };
        assert_eq!(calls, n);
    }

    pub(crate) fn synchronize(self, n: u64) {
        let f = self.table.synchronize.expect("a library");
        // SAFETY: No read section is open on this thread.
        unsafe { f(n) };
    }

    pub(crate) fn synchronize_rcu(self, n: u64) {
        let f = self.table.synchronize_rcu.expect("a library");
        // SAFETY: As above.
        unsafe { f(n) };
    }

    pub(crate) fn burst(self, count: u64) -> Burst {
        let f = self.table.burst_new.expect("a library");
        // SAFETY: See `mm`.
        let object = unsafe { f(count) };
        Burst {
            subject: self,
            object,
        }
    }
}

impl Mm {
    /// `callbacks`: how many a pair calls.
    pub(crate) fn pairs(&self, thread: u64, callbacks: u64, n: u64) {
        // SAFETY: It belongs to this subject.
        let calls = unsafe { (self.subject.table.pairs)(self.object, thread, n) };
        assert_eq!(calls, callbacks * n);
    }

    pub(crate) fn young(&self, n: u64) {
        // SAFETY: As above.
        let calls = unsafe { (self.subject.table.young)(self.object, 0, n) };
        assert_eq!(calls, n);
    }

    pub(crate) fn bare(&self, callbacks: u64, n: u64) {
        // SAFETY: As above.
        let calls = unsafe { (self.subject.table.bare)(self.object, 0, n) };
        assert_eq!(calls, callbacks * n);
    }
}

impl Crowd {
    pub(crate) fn pairs(&self, n: u64) {
        // SAFETY: It belongs to this subject.
        let calls = unsafe { (self.subject.table.crowd_pairs)(self.object, n) };
        assert_eq!(calls, 2 * n);
    }
}

impl Set {
    pub(crate) fn pairs(&self, thread: u64, hits: u64, place: Place, n: u64) {
        let hot = c_ulong::from(place == Place::Hot);
        // SAFETY: It belongs to this subject.
        let calls = unsafe { (self.subject.table.set_pairs)(self.object, thread, hits, hot, n) };
        assert_eq!(calls, hits * n);
    }

    pub(crate) fn updates(&self, place: Place, n: u64) {
        // SAFETY: As above.
        unsafe {
            (self.subject.table.set_updates)(self.object, c_ulong::from(place == Place::Hot), n)
        };
    }

    pub(crate) fn reads(&self, n: u64) {
        // SAFETY: As above.
        unsafe { (self.subject.table.set_reads)(self.object, n) };
    }
}

/// Notifiers that a driver has got, and gives back all at once.
pub(crate) struct Burst {
    subject: Subject,
    object: Object,
}

impl Burst {
    pub(crate) fn puts(&mut self) {
        let f = self.subject.table.burst_puts.expect("a library");
        // SAFETY: All are got: `settle` follows, before the next.
        unsafe { f(self.object) };
    }

    pub(crate) fn settle(&mut self) {
        let f = self.subject.table.burst_settle.expect("a library");
        // SAFETY: All were given back.
        unsafe { f(self.object) };
    }
}

impl Drop for Burst {
    fn drop(&mut self) {
        let f = self.subject.table.burst_free.expect("a library");
        // SAFETY: Nobody uses it any more.
        unsafe { f(self.object) };
        self.object = ptr::null_mut();
    }
}
