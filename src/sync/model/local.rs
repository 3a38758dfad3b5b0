//! Thread-locals and globals, which begin anew in each execution.
#![expect(unsafe_code, reason = "what an execution owns lives until it ends")]

use core::any::Any;
use core::cell::Cell;
use core::ops::Deref;
use core::ptr;
use std::rc::Rc;

use super::with;

/// As std's, for a thread of the model. It is dropped with the execution.
#[derive(Debug)]
pub struct LocalKey<T: 'static> {
    init: fn() -> T,
}

impl<T: 'static> LocalKey<T> {
    /// A local that begins as `init` says.
    pub const fn new(init: fn() -> T) -> Self {
        Self { init }
    }

    /// As std's.
    pub fn with<R>(&'static self, look: impl FnOnce(&T) -> R) -> R {
        if with(|_| ()).is_none() {
            return look(outside(self, self.init));
        }
        let key = (loom::thread::current().id(), ptr::from_ref(self).addr());
        let found = with(|execution| execution.locals.get(&key).cloned()).flatten();
        let value = found.unwrap_or_else(|| {
            let fresh: Rc<dyn Any> = Rc::new((self.init)());
            with(|execution| execution.locals.insert(key, Rc::clone(&fresh)));
            fresh
        });
        look(value.downcast_ref().expect("one type for each key"))
    }
}

impl<T: 'static> LocalKey<Cell<T>> {
    /// As std's.
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }

    /// As std's.
    pub fn set(&'static self, value: T) {
        self.with(|cell| cell.set(value));
    }
}

/// A static of the library.
#[derive(Debug)]
pub struct Global<T: 'static> {
    init: fn() -> T,
}

impl<T: 'static> Global<T> {
    /// A static that begins as `init` says.
    pub const fn new(init: fn() -> T) -> Self {
        Self { init }
    }
}

impl<T: 'static> Deref for Global<T> {
    type Target = T;
    fn deref(&self) -> &T {
        if with(|_| ()).is_none() {
            return outside(self, self.init);
        }
        let key = ptr::from_ref(self).addr();
        let found = with(|execution| execution.globals.get(&key).cloned()).flatten();
        let value = found.unwrap_or_else(|| {
            let fresh: Rc<dyn Any> = Rc::new((self.init)());
            with(|execution| execution.globals.insert(key, Rc::clone(&fresh)));
            fresh
        });
        let value: *const T = value.downcast_ref().expect("one type for each key");
        // SAFETY: The execution owns it until it ends, and with it all that refers to it.
        unsafe { &*value }
    }
}

/// Outside an execution: one value for each key and thread, for ever.
fn outside<K, T: 'static>(key: &K, init: fn() -> T) -> &'static T {
    use std::cell::RefCell;
    use std::collections::HashMap;
    std::thread_local! {
        static VALUES: RefCell<HashMap<usize, &'static dyn Any>> = RefCell::default();
    }
    let key = ptr::from_ref(key).addr();
    let known = VALUES.try_with(|values| values.borrow().get(&key).copied());
    if let Ok(Some(value)) = known {
        return value.downcast_ref().expect("one type for each key");
    }
    let fresh: &'static T = Box::leak(Box::new(init()));
    // A thread that ends has no table any more: the value is its own then.
    let _ = VALUES.try_with(|values| values.borrow_mut().insert(key, fresh));
    fresh
}
