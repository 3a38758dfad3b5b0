// SPDX-License-Identifier: MIT OR Apache-2.0
//! docs/spec/SPEC.md, section 3 with the visible decisions of section 7, as an executable model.
//!
//! Naive on purpose: plain vectors, one short function per group of rules, the ids of the rules in the comments. It was
//! written from the text of SPEC.md, not from the library's sources, and must stay so: a difference between the two is
//! what it is for.
//!
//! A call that may sleep is an `async fn`. It awaits [`Contract::until`] where it sleeps until something is so; what
//! happens between two sleeps is atomic, which is all that locks (S.lock, the SRCU internals) are here. Whoever polls the
//! calls decides who runs next.
//!
//! Objects are numbers that the user chooses (subscribers, intervals) or that a call returns (mms). Callbacks go to the
//! user's [`Driver`]. After a BUG (DV-3) the call never goes on, and [`Contract::bug`] names the rule.
//!
//! Not modelled: allocation failures, -EINTR (DV-4), the reverse-map lock (DV-2: no program holds it), the misuse of DV-7
//! and DV-9, fork (DV-13).

mod events;
mod intervals;
mod mm;
mod ops;
mod state;
mod subscribers;

pub use ops::*;
pub use state::{Interval, View};

use std::cell::{RefCell, RefMut};
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::task::Poll;

use state::*;

/// The calls.
pub struct Contract {
    state: RefCell<State>,
    driver: Box<dyn Driver>,
}

impl Contract {
    /// No mm yet. `warned_once`: the process has had its WARN_ON_ONCE of RG-2.
    pub fn new(driver: Box<dyn Driver>, warned_once: bool) -> Rc<Self> {
        let state = RefCell::new(State {
            warned_once,
            ..State::default()
        });
        Rc::new(Self { state, driver })
    }

    fn state(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }

    /// Sleep until it is so.
    pub async fn until(&self, is_so: impl Fn(&View<'_>) -> bool) {
        poll_fn(|_| {
            let mut state = self.state();
            if !is_so(&View(&state)) {
                return Poll::Pending;
            }
            state.progress += 1;
            Poll::Ready(())
        })
        .await;
    }

    /// Counts the sleeps that have ended.
    pub fn progress(&self) -> u64 {
        self.state().progress
    }

    fn warn(&self, rule: &'static str) {
        self.state().warnings.push(rule);
    }

    /// The rules of the WARNs since the last call.
    pub fn take_warnings(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.state().warnings)
    }

    /// DV-3: the library reports and aborts.
    async fn die(&self, rule: &'static str) {
        self.state().bug = Some(rule);
        pending::<()>().await;
    }

    /// The rule of the BUG, if there was one.
    pub fn bug(&self) -> Option<&'static str> {
        self.state().bug
    }

    // ------------------------------------------------------------------------- what a driver can read of its objects

    /// mm_users and mm_count.
    pub fn counts(&self, mm: usize) -> (i64, i64) {
        let state = self.state();
        (state.mms[mm].users, state.mms[mm].count)
    }

    /// sub.users, and is it linked?
    pub fn sub(&self, sub: usize) -> (u32, bool) {
        let mut state = self.state();
        let Sub { users, mm, .. } = *state.sub(sub);
        (users, state.s(mm).list.contains(&sub))
    }

    /// The fields of an interval.
    pub fn interval(&self, id: usize) -> Interval {
        *self.state().interval(id)
    }

    /// mm_has_notifiers.
    pub fn has_notifiers(&self, mm: usize) -> bool {
        self.state().has_subs(mm)
    }

    // ----------------------------------------------------------------------------- grace periods: DV-6, GP-7, SY-1

    fn enter_section(&self) -> u64 {
        let mut state = self.state();
        state.tickets += 1;
        let section = state.tickets;
        state.sections.push(section);
        section
    }

    fn leave_section(&self, section: u64) {
        self.state().sections.retain(|open| *open != section);
        self.free_what_is_due();
    }

    /// DV-6: waits for the sections that are open now, for no later one.
    async fn grace_period(&self) {
        let before = self.state().sections.clone();
        self.until(|state| !state.any_open(&before)).await;
    }

    fn free_what_is_due(&self) {
        loop {
            let mut state = self.state();
            let over = |owed: &Owed| !View(&state).any_open(&owed.before);
            let Some(at) = state.owed.iter().position(over) else {
                return;
            };
            let sub = state.owed.remove(at).sub;
            let mm = state.sub(sub).mm;
            drop(state);
            self.driver.free(sub); // GP-7: first free_notifier, then the reference
            self.drop_count(mm);
        }
    }

    /// mmu_notifier_synchronize. SY-1, DV-5.
    pub async fn synchronize(&self) {
        let owed: Vec<u64> = self.state().owed.iter().map(|owed| owed.number).collect();
        self.grace_period().await;
        self.until(|state| !state.any_owed(&owed)).await;
    }

    // ------------------------------------------------------------------------------------------ walks: HS-3, HS-11

    /// One pass over the list inside a section: calls `op` of each sub that has it, newest first, and tells `answer` what
    /// it said; stops when that says so.
    async fn walk(&self, mm: usize, op: Op, args: Args, mut answer: impl FnMut(Ops, i64) -> bool) {
        let mut at = self.state().s(mm).list.first().copied();
        while let Some(subject) = at {
            let ops = self.state().sub(subject).ops;
            if ops.has(op) {
                let said = self.driver.call(Call { op, subject, args }).await;
                if answer(ops, said) {
                    return;
                }
            }
            at = self.state().successor(mm, subject);
        }
    }

    /// 1.3: the inlines do nothing without S.
    async fn walk_in_section(
        &self,
        mm: usize,
        op: Op,
        args: Args,
        answer: impl FnMut(Ops, i64) -> bool,
    ) {
        if self.has_notifiers(mm) {
            let section = self.enter_section();
            self.walk(mm, op, args, answer).await;
            self.leave_section(section);
        }
    }
}
