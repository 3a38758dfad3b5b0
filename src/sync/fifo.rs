//! A first-in first-out queue that allocates nothing: its elements are linked through a word of their own. Whoever has one guards it
//! by a lock.
#![expect(unsafe_code, reason = "an intrusive queue")]

use core::ptr;

/// What can be queued.
///
/// # Safety
/// `link` gives the address of a word of the element that only its queue uses as long as it is queued.
pub unsafe trait Linked {
    /// The word that links `element` to the next one.
    fn link(element: *mut Self) -> *mut *mut Self;
}

/// The queue. Zeroed memory is an empty one.
#[repr(C)]
#[derive(Debug)]
pub struct Fifo<T> {
    first: *mut T,
    last: *mut T,
}

impl<T: Linked> Fifo<T> {
    /// Nothing is queued.
    pub const EMPTY: Self = Self {
        first: ptr::null_mut(),
        last: ptr::null_mut(),
    };

    /// Is nothing queued?
    pub fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// The first and the last element.
    pub fn ends(&self) -> Option<(*mut T, *mut T)> {
        (!self.is_empty()).then_some((self.first, self.last))
    }

    /// Puts `element` behind all others.
    ///
    /// # Safety
    /// It is in no queue, and stays valid until it is popped.
    pub unsafe fn push(&mut self, element: *mut T) {
        // SAFETY: The caller gives us `element`.
        unsafe { T::link(element).write(ptr::null_mut()) };
        if self.first.is_null() {
            self.first = element;
        } else {
            // SAFETY: `last` is queued, hence valid.
            unsafe { T::link(self.last).write(element) };
        }
        self.last = element;
    }

    /// Takes out the first element.
    pub fn pop(&mut self) -> Option<*mut T> {
        let (first, _) = self.ends()?;
        // SAFETY: Queued, hence valid.
        self.first = unsafe { T::link(first).read() };
        Some(first)
    }

    /// Puts all of `other` behind what is here.
    pub fn append(&mut self, other: &mut Self) {
        while let Some(element) = other.pop() {
            // SAFETY: Just taken out, hence valid and in no queue.
            unsafe { self.push(element) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Element {
        link: *mut Element,
    }

    // SAFETY: The word is the queue's alone.
    unsafe impl Linked for Element {
        fn link(element: *mut Self) -> *mut *mut Self {
            element
                .wrapping_byte_add(core::mem::offset_of!(Element, link))
                .cast()
        }
    }

    #[test]
    fn what_came_first_goes_first() {
        let mut elements = [const {
            Element {
                link: ptr::null_mut(),
            }
        }; 4];
        let first = elements.as_mut_ptr();
        let [a, b, c, d] = [0, 1, 2, 3].map(|index| first.wrapping_add(index));
        let (mut queue, mut other) = (Fifo::EMPTY, Fifo::EMPTY);
        for element in [a, b] {
            // SAFETY: The elements outlive the queues.
            unsafe { queue.push(element) };
        }
        for element in [c, d] {
            // SAFETY: As above.
            unsafe { other.push(element) };
        }
        queue.append(&mut other);
        assert!(other.is_empty());
        assert_eq!(queue.ends(), Some((a, d)));
        let popped: Vec<_> = core::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(popped, [a, b, c, d]);
        // SAFETY: As above.
        unsafe { queue.push(c) };
        assert_eq!((queue.pop(), queue.pop()), (Some(c), None));
    }
}
