//! Readers of one domain, told apart by generation: the readers' side of a driver's own `srcu_struct`.
//!
//! The simplest exact scheme. A domain has a current generation, which new readers join. Whoever wants a grace period
//! closes the current generation and waits until it and all older ones are empty. So a grace period waits for exactly
//! the readers that were inside when it began, never for later ones, and each reader costs two short critical
//! sections. At most `N` generations are open at a time; should they run out, the generation is closed as soon as one
//! is free, and its waiters wait for the readers of that moment too.
//!
//! Invariants
//! * `oldest <= current < oldest + N`, and a generation older than `oldest` has no readers.
//! * All of a domain's state is under its lock. That lock is also the memory barrier of MO-5: a reader's exit and the
//!   return of the grace period, and the update before a grace period and the entry of a later reader, are ordered by it.

use crate::sync::{
    Lock, WaitQueue, hook::WaitReason::MMU_NOTIFIER_WAIT_GRACE_PERIOD as GRACE_PERIOD,
};

/// A domain of readers with up to `N` open generations, and what else its lock guards.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Generations<const N: usize, C = ()> {
    pub(super) state: Lock<State<N, C>>,
    drained: WaitQueue,
}

#[repr(C)]
#[derive(Debug)]
pub(super) struct State<const N: usize, C> {
    /// The generation that new readers join.
    current: u64,
    /// The oldest generation that may have readers.
    oldest: u64,
    /// Somebody waits for `current`, which could not be closed when they came.
    close_when_possible: bool,
    /// Readers of each open generation, at index `generation % N`.
    pub(super) readers: [u32; N],
    /// What else the lock guards.
    pub(super) extra: C,
}

/// Names the end of a grace period: all readers of this generation and of older ones have left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u64);

impl Ticket {
    /// The first one.
    pub(super) const FIRST: Self = Self(0);
}

impl<const N: usize, C> Generations<N, C> {
    /// A domain without readers, whose lock guards `extra`, too.
    pub(super) const fn with(extra: C) -> Self {
        let state = State {
            current: 0,
            oldest: 0,
            close_when_possible: false,
            readers: [0; N],
            extra,
        };
        Self {
            state: Lock::new(state),
            drained: WaitQueue::new(),
        }
    }

    /// Enters a read section. The section may sleep and may nest. The cookie goes to [`Generations::leave`].
    pub(super) fn read_lock(&self) -> usize {
        let mut state = self.state.lock();
        let slot = State::<N, C>::slot(state.current);
        state.readers[slot] += 1;
        slot
    }

    /// Leaves a section; under the lock, `then` is told whether a grace period has ended. `None`, with nothing changed, if there
    /// is no such section. Whoever was waiting may free the domain: it is not touched after the lock was released.
    pub(super) fn leave<T>(
        &self,
        cookie: usize,
        then: impl FnOnce(&mut State<N, C>, bool) -> T,
    ) -> Option<T> {
        let mut state = self.state.lock();
        let readers = state
            .readers
            .get_mut(cookie)
            .filter(|readers| **readers > 0)?;
        *readers -= 1;
        let moved = state.advance();
        let result = then(&mut state, moved);
        if moved {
            self.drained.wake_all(state, GRACE_PERIOD);
        }
        Some(result)
    }

    /// Begins a grace period. Never sleeps.
    pub(super) fn begin(&self) -> Ticket {
        self.state.lock().close()
    }

    /// Sleeps until the grace period `ticket` is over.
    pub(super) fn wait(&self, ticket: Ticket) {
        let mut state = self.state.lock();
        while !state.is_over(ticket) {
            state = self.drained.wait(state, GRACE_PERIOD);
        }
    }

    /// Waits for all readers that are inside now.
    // SPEC: MO-5
    pub(super) fn synchronize(&self) {
        let ticket = self.begin();
        self.wait(ticket);
    }
}

impl<const N: usize, C> State<N, C> {
    fn slot(generation: u64) -> usize {
        usize::try_from(generation % N as u64).unwrap_or(0)
    }

    pub(super) fn is_over(&self, ticket: Ticket) -> bool {
        self.oldest > ticket.0
    }

    /// Closes the current generation, if it has readers, and names its end.
    pub(super) fn close(&mut self) -> Ticket {
        let ticket = Ticket(self.current);
        if self.readers[Self::slot(self.current)] == 0 && self.current > 0 {
            return Ticket(self.current - 1);
        }
        if self.current + 1 < self.oldest + N as u64 {
            self.current += 1;
        } else {
            self.close_when_possible = true;
        }
        self.advance();
        ticket
    }

    /// Moves `oldest` over generations that have become empty. Returns whether it moved.
    fn advance(&mut self) -> bool {
        let before = self.oldest;
        loop {
            while self.oldest < self.current && self.readers[Self::slot(self.oldest)] == 0 {
                self.oldest += 1;
            }
            if !self.close_when_possible || self.oldest == before {
                return self.oldest != before;
            }
            self.close_when_possible = false;
            self.current += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leave<const N: usize>(domain: &Generations<N>, cookie: usize) {
        assert!(domain.leave(cookie, |_, _| ()).is_some());
    }

    #[test]
    fn a_grace_period_waits_for_the_readers_of_its_beginning_only() {
        let domain = Generations::<4>::with(());
        let early = domain.read_lock();
        let ticket = domain.begin();
        let late = domain.read_lock();
        assert!(!domain.state.lock().is_over(ticket));
        leave(&domain, early);
        assert!(domain.state.lock().is_over(ticket));
        leave(&domain, late);
    }

    #[test]
    fn nobody_inside_means_no_wait() {
        let domain = Generations::<4>::with(());
        for _ in 0..10 {
            domain.synchronize();
            let cookie = domain.read_lock();
            leave(&domain, cookie);
            domain.synchronize();
        }
    }

    #[test]
    fn generations_run_out_without_losing_a_waiter() {
        let domain = Generations::<4>::with(());
        let mut inside = Vec::new();
        let mut tickets = Vec::new();
        for _ in 0..9 {
            inside.push(domain.read_lock());
            tickets.push(domain.begin());
        }
        for cookie in inside.drain(..) {
            assert!(!domain.state.lock().is_over(tickets[8]));
            leave(&domain, cookie);
        }
        for ticket in tickets {
            assert!(domain.state.lock().is_over(ticket));
        }
    }

    #[test]
    fn mo_5_synchronize_sees_what_readers_did() {
        static DOMAIN: Generations<64> = Generations::with(());
        crate::srcu::tests::grace_periods_see_what_readers_did(
            |read| {
                let cookie = DOMAIN.read_lock();
                read();
                leave(&DOMAIN, cookie);
            },
            || DOMAIN.synchronize(),
        );
    }
}
