//! What becomes of a panic in a callback.
//!
//! A call that causes events puts a [`Collector`] on its stack; a callback that panics leaves the panic in the innermost one of
//! its thread, and the call takes it up again when the core has returned. Collectors are linked through the stack, so that
//! nothing here has a destructor of its own or allocates.

use core::any::Any;
use core::cell::Cell;
use core::ptr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

type Payload = Box<dyn Any + Send>;

struct Collector {
    outer: *const Collector,
    caught: Cell<Option<Payload>>,
}

thread_local! {
    static INNERMOST: Cell<*const Collector> = const { Cell::new(ptr::null()) };
}

/// Unlinks a collector.
struct Leave(*const Collector);

impl Drop for Leave {
    fn drop(&mut self) {
        INNERMOST.set(self.0);
    }
}

/// What a call that caused events returned, and the panic that it met.
#[must_use]
pub(super) struct Outcome<T> {
    result: T,
    panic: Option<Payload>,
}

impl<T> Outcome<T> {
    /// Makes something of the result; the panic waits.
    pub(super) fn map<U>(self, make: impl FnOnce(T) -> U) -> Outcome<U> {
        Outcome {
            result: make(self.result),
            panic: self.panic,
        }
    }

    /// The result; or the panic goes on, once the result was dropped.
    pub(super) fn or_panic(self) -> T {
        match self.panic {
            Some(panic) if !std::thread::panicking() => {
                drop(self.result);
                resume_unwind(panic)
            }
            _ => self.result,
        }
    }
}

/// Runs what causes events.
pub(super) fn events<T>(call: impl FnOnce() -> T) -> Outcome<T> {
    let collector = Collector {
        outer: INNERMOST.get(),
        caught: Cell::new(None),
    };
    INNERMOST.set(&raw const collector);
    let leave = Leave(collector.outer);
    let result = call();
    drop(leave);
    Outcome {
        result,
        panic: collector.caught.take(),
    }
}

/// Runs a callback; `otherwise` is its answer if it panics.
pub(super) fn shield<T>(otherwise: T, callback: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(callback)).unwrap_or_else(|panic| {
        keep(panic);
        otherwise
    })
}

/// Leaves a panic with whoever caused the event. The first one stays.
#[cold]
fn keep(panic: Payload) {
    // SAFETY: A collector is linked only while `events` borrows it, further down this very stack.
    let Some(collector) = (unsafe { INNERMOST.get().as_ref() }) else {
        return;
    };
    let first = collector.caught.take().unwrap_or(panic);
    collector.caught.set(Some(first));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_panic_goes_to_the_innermost_call() {
        let outer = events(|| {
            let inner = events(|| {
                let answer = shield(1, || resume_unwind(Box::new("first")));
                answer + shield(2, || resume_unwind(Box::new("second")))
            });
            let caught = catch_unwind(AssertUnwindSafe(|| inner.map(|n| n + 1).or_panic()));
            caught.unwrap_err().downcast_ref::<&str>().copied()
        });
        assert_eq!(outer.or_panic(), Some("first"));
    }

    #[test]
    fn a_panic_that_nobody_called_for_ends() {
        assert_eq!(shield(3, || resume_unwind(Box::new(()))), 3);
    }
}
