//! A section of walks that ends by itself, and tells the worker if a grace period has ended with it.

use core::ops::Deref;

use super::subscriptions::Subscriptions;
use super::worker::WORKER;
use crate::abi::mm::mm_struct;
use crate::chain::Section;

/// A [`Section`] of the chain of one mm, left when dropped.
#[derive(Debug)]
pub(super) struct Walk<'a>(Section<'a>);

impl<'a> Walk<'a> {
    #[inline]
    pub(super) fn enter(subscriptions: &'a Subscriptions, mm: *mut mm_struct) -> Self {
        Self(Section::enter(&subscriptions.chain, mm))
    }

    /// Leaves it in a child, where nobody waits, and no lock is to be touched.
    pub(super) fn abandon(self) {
        self.0.abandon();
        core::mem::forget(self);
    }
}

impl<'a> Deref for Walk<'a> {
    type Target = Section<'a>;
    #[inline]
    fn deref(&self) -> &Section<'a> {
        &self.0
    }
}

impl Drop for Walk<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.0.leave() {
            WORKER.poke();
        }
    }
}
