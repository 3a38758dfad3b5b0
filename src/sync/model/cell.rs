//! A cell whose accesses must be ordered: those of a lock's data.

use std::rc::Rc;

use super::with;

/// As core's, but each `get` counts as a change: one that another thread's is not ordered with ends the model.
#[derive(Debug)]
pub struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    /// A cell that holds `value`.
    pub const fn new(value: T) -> Self {
        Self(core::cell::UnsafeCell::new(value))
    }

    /// The value, for a thread that has it for itself.
    pub fn get(&self) -> *mut T {
        let place = self.0.get();
        let record = with(|execution| {
            let fresh = || {
                Rc::new(
                    execution
                        .free_cells
                        .pop()
                        .expect("Bounds::cells is too small"),
                )
            };
            Rc::clone(execution.cells.entry(place.addr()).or_insert_with(fresh))
        });
        if let Some(record) = record {
            record.with_mut(|_| ());
        }
        place
    }
}

impl<T> Drop for UnsafeCell<T> {
    /// Another cell may come to this address.
    fn drop(&mut self) {
        let address = self.0.get().addr();
        with(|execution| execution.cells.remove(&address));
    }
}
