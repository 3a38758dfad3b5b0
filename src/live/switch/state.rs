//! Whether live events are on, and by what means.
//!
//! Lock order: the lock of `STATE` is taken before any other of the library, and by fork before malloc's: nothing that may run in a
//! callback waits for it. No callback runs under it. That of `SHOWN` is a leaf.
#![expect(unsafe_code, reason = "begins anew in a child")]

use crate::live::net::{self, Monitor};
use crate::live::sites::write::Method;
use crate::live::status::Reason;
use crate::mm::calls;
use crate::sync::{Lock, LockGuard};

/// What is in force.
#[derive(Clone, Copy, Debug)]
pub(in crate::live) struct Shown {
    pub(super) enabled: bool,
    pub(super) method: Option<Method>,
    pub(super) reason: Reason,
    pub(super) has_net: bool,
}

/// A copy of what `STATE` guards, for the status: nobody who asks in a callback may wait for who writes sites, or for fork. Changed with
/// `STATE` held only, so it is whole in a child, whoever was reading it.
pub(in crate::live) static SHOWN: Lock<Shown> = Lock::new(Shown {
    enabled: false,
    method: None,
    reason: Reason::None,
    has_net: false,
});

/// Guarded by the lock, which fork takes.
#[derive(Debug)]
pub(in crate::live) struct State {
    pub(super) enabled: bool,
    pub(super) method: Option<Method>,
    pub(super) reason: Reason,
    /// Who reads what the net notices.
    pub(super) net: Option<Monitor>,
}

impl State {
    /// After a change.
    pub(super) fn show(&self) {
        *SHOWN.lock() = Shown {
            enabled: self.enabled,
            method: self.method,
            reason: self.reason,
            has_net: self.net.is_some(),
        };
    }

    /// In a child, nothing is enabled.
    ///
    /// # Safety
    /// The child of a fork, or of a bare clone(): there is one thread.
    pub(in crate::live) unsafe fn begin_anew(&mut self) {
        self.enabled = false;
        if let Some(monitor) = self.net.take() {
            self.reason = Reason::NetFork;
            // SAFETY: The caller's promise.
            unsafe { net::forget(monitor) };
        }
        self.show();
    }
}

pub(in crate::live) static STATE: Lock<State> = Lock::new(State {
    enabled: false,
    method: None,
    reason: Reason::None,
    net: None,
});

/// The state. A child of a bare clone(), which no handler has told so, is found out here: the kernel has wiped what is watched,
/// and the lock guards what the parent left.
pub(super) fn lock_state() -> LockGuard<'static, State> {
    let mut state = STATE.lock();
    if state.enabled && !calls::is_enabled() {
        // SAFETY: Both change together, under the lock.
        unsafe { state.begin_anew() };
    }
    state
}

/// A copy of the state, which waits for nobody who changes it.
pub(super) fn shown() -> Shown {
    let shown = *SHOWN.lock();
    if shown.enabled && !calls::is_enabled() && !calls::is_inside() {
        // In a child of a bare clone().
        drop(lock_state());
        return *SHOWN.lock();
    }
    shown
}
