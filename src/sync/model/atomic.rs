//! Atomics: a word, and behind its address a loom atomic.
#![expect(unsafe_code, reason = "atomics are words of other structs")]

use core::cell::{Cell, UnsafeCell};
use core::sync::atomic::Ordering;
use std::rc::Rc;

use super::{heap, with};

/// What stands behind the address of an atomic.
pub(super) struct Shadow {
    /// The value, less `first`, in the highest bits.
    atomic: loom::sync::atomic::AtomicU64,
    first: u64,
    bits: u32,
    /// What the word holds.
    last: Cell<u64>,
}

impl Shadow {
    fn encode(&self, value: u64) -> u64 {
        value.wrapping_sub(self.first) << (64 - self.bits)
    }

    fn decode(&self, stored: u64) -> u64 {
        let value = (stored >> (64 - self.bits)).wrapping_add(self.first);
        value << (64 - self.bits) >> (64 - self.bits)
    }
}

/// The shadow of the word at `address`, which holds `now`.
fn shadow(address: usize, now: u64, bits: u32) -> Option<Rc<Shadow>> {
    let found = with(|execution| {
        if let Some(known) = execution.words.get(&address) {
            return Rc::clone(known);
        }
        assert!(
            !heap::is_poison(now, bits),
            "use after free: an atomic of freed memory"
        );
        let atomic = execution.free_words.pop();
        let fresh = Rc::new(Shadow {
            atomic: atomic.expect("Bounds::atomics is too small"),
            first: now,
            bits,
            last: Cell::new(now),
        });
        execution.words.insert(address, Rc::clone(&fresh));
        fresh
    })?;
    assert_eq!(
        found.last.get(),
        now,
        "use after free, or a plain write to an atomic"
    );
    Some(found)
}

/// The atomic at `address` is no more; another one may come there. To loom that is a step, which must be ordered after all uses.
fn end_of_life(address: usize) {
    let known = with(|execution| execution.words.get(&address).cloned()).flatten();
    let Some(shadow) = known else {
        return;
    };
    let (order, none) = (Ordering::Relaxed, shadow.encode(!shadow.last.get()));
    // Fails, or changes nothing.
    let _ = shadow.atomic.compare_exchange(none, none, order, order);
    with(|execution| execution.words.remove(&address));
    match Rc::try_unwrap(shadow) {
        Ok(mut last) => last.atomic.with_mut(|_| ()),
        Err(_) => panic!("use after free: an atomic is freed in the middle of its use"),
    }
}

/// A loom atomic of its own, for orders that no word stands for.
pub(super) fn anonymous() -> Option<loom::sync::atomic::AtomicU64> {
    with(|execution| {
        let atomic = execution.free_words.pop();
        atomic.expect("Bounds::atomics is too small")
    })
}

macro_rules! atomic {
    ($name:ident $(<$t:ident>)?, $value:ty, $bits:expr, $raw:ty) => {
        /// An atomic of the model.
        #[repr(transparent)]
        pub struct $name $(<$t>)? (UnsafeCell<$value>);

        // SAFETY: The threads of a model take turns.
        unsafe impl $(<$t>)? Sync for $name $(<$t>)? {}
        // SAFETY: As above.
        unsafe impl $(<$t>)? Send for $name $(<$t>)? {}

        impl $(<$t>)? $name $(<$t>)? {
            /// An atomic that holds `value`.
            pub const fn new(value: $value) -> Self {
                Self(UnsafeCell::new(value))
            }

            /// The atomic in the word at `word`.
            ///
            /// # Safety
            /// `word` is valid while the result is used.
            pub unsafe fn from_ptr<'a>(word: *mut $value) -> &'a Self {
                // SAFETY: The caller's promise; the layouts are the same.
                unsafe { &*word.cast() }
            }

            /// The word.
            pub fn as_ptr(&self) -> *mut $value {
                self.0.get()
            }

            pub(super) fn now(&self) -> u64 {
                // SAFETY: Valid while borrowed; the threads of a model take turns.
                Self::to_raw(unsafe { self.0.get().cast::<$raw>().read() })
            }

            fn shadow(&self) -> Option<Rc<Shadow>> {
                shadow(self.0.get().addr(), self.now(), $bits)
            }

            /// The word holds `value` from now on.
            fn write(&self, shadow: Option<&Shadow>, value: u64) {
                if let Some(shadow) = shadow {
                    shadow.last.set(value);
                }
                // SAFETY: As in `now`.
                unsafe { self.0.get().write(Self::from_raw(value)) };
            }

            /// As core's.
            pub fn load(&self, order: Ordering) -> $value {
                let value = match self.shadow() {
                    Some(shadow) => shadow.decode(shadow.atomic.load(order)),
                    None => self.now(),
                };
                Self::from_raw(value)
            }

            /// As core's.
            pub fn store(&self, value: $value, order: Ordering) {
                let value = Self::value_to_raw(value);
                let shadow = self.shadow();
                if let Some(shadow) = &shadow {
                    shadow.atomic.store(shadow.encode(value), order);
                }
                self.write(shadow.as_deref(), value);
            }

            /// As core's.
            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                let value = Self::value_to_raw(value);
                let shadow = self.shadow();
                let before = match &shadow {
                    Some(shadow) => {
                        shadow.decode(shadow.atomic.swap(shadow.encode(value), order))
                    }
                    None => self.now(),
                };
                self.write(shadow.as_deref(), value);
                Self::from_raw(before)
            }

            /// As core's.
            ///
            /// # Errors
            /// The value that it had, which is not `current`.
            pub fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                let (from, to) = (Self::value_to_raw(current), Self::value_to_raw(new));
                let shadow = self.shadow();
                let result = match &shadow {
                    Some(shadow) => {
                        let (from, to) = (shadow.encode(from), shadow.encode(to));
                        let result = shadow.atomic.compare_exchange(from, to, success, failure);
                        result
                            .map(|before| shadow.decode(before))
                            .map_err(|before| shadow.decode(before))
                    }
                    None if self.now() == from => Ok(from),
                    None => Err(self.now()),
                };
                if result.is_ok() {
                    self.write(shadow.as_deref(), to);
                }
                result.map(Self::from_raw).map_err(Self::from_raw)
            }

            /// As core's.
            ///
            /// # Errors
            /// The value for which `update` had none.
            pub fn fetch_update(
                &self,
                set: Ordering,
                fetch: Ordering,
                mut update: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                let mut before = self.load(fetch);
                while let Some(next) = update(before) {
                    match self.compare_exchange(before, next, set, fetch) {
                        Ok(_) => return Ok(before),
                        Err(other) => before = other,
                    }
                }
                Err(before)
            }
        }

        impl $(<$t>)? Drop for $name $(<$t>)? {
            fn drop(&mut self) {
                end_of_life(self.0.get().addr());
            }
        }

        impl $(<$t>)? core::fmt::Debug for $name $(<$t>)? {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, "{}", self.now())
            }
        }
    };
}

macro_rules! integer {
    ($name:ident, $value:ident, $unsigned:ident) => {
        atomic!($name, $value, $value::BITS, $value);

        impl Default for $name {
            fn default() -> Self {
                Self::new(0)
            }
        }

        impl $name {
            fn to_raw(value: $value) -> u64 {
                value as $unsigned as u64
            }

            fn value_to_raw(value: $value) -> u64 {
                Self::to_raw(value)
            }

            fn from_raw(raw: u64) -> $value {
                raw as $value
            }

            /// As core's.
            pub fn fetch_add(&self, term: $value, order: Ordering) -> $value {
                let shadow = self.shadow();
                let before = match &shadow {
                    Some(shadow) => {
                        let term = Self::to_raw(term) << (64 - shadow.bits);
                        shadow.decode(shadow.atomic.fetch_add(term, order))
                    }
                    None => self.now(),
                };
                let before = Self::from_raw(before);
                self.write(shadow.as_deref(), Self::to_raw(before.wrapping_add(term)));
                before
            }

            /// As core's.
            pub fn fetch_sub(&self, term: $value, order: Ordering) -> $value {
                self.fetch_add(term.wrapping_neg(), order)
            }

            /// As core's, in more than one step: it is tried again after an interference.
            pub fn fetch_or(&self, bits: $value, order: Ordering) -> $value {
                self.rmw(order, |value| value | bits)
            }

            fn rmw(&self, order: Ordering, change: impl Fn($value) -> $value) -> $value {
                let mut before = self.load(Ordering::Relaxed);
                loop {
                    let next = change(before);
                    match self.compare_exchange(before, next, order, Ordering::Relaxed) {
                        Ok(_) => return before,
                        Err(other) => before = other,
                    }
                }
            }
        }
    };
}

integer!(AtomicU32, u32, u32);
integer!(AtomicI32, i32, u32);
integer!(AtomicU64, u64, u64);
integer!(AtomicUsize, usize, usize);
atomic!(AtomicBool, bool, 8, u8);
atomic!(AtomicPtr<T>, *mut T, 64, *mut T);

impl AtomicBool {
    fn to_raw(value: u8) -> u64 {
        u64::from(value)
    }

    fn value_to_raw(value: bool) -> u64 {
        u64::from(value)
    }

    fn from_raw(raw: u64) -> bool {
        raw == 1
    }
}

impl Default for AtomicBool {
    fn default() -> Self {
        Self::new(false)
    }
}

impl<T> AtomicPtr<T> {
    fn to_raw(value: *mut T) -> u64 {
        value.expose_provenance() as u64
    }

    fn value_to_raw(value: *mut T) -> u64 {
        Self::to_raw(value)
    }

    fn from_raw(raw: u64) -> *mut T {
        core::ptr::with_exposed_provenance_mut(raw as usize)
    }
}
