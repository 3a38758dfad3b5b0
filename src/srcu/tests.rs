//! The domain of walks. One for all tests: it is the process's, and its readers are threads.

use super::*;
use crate::sync::AtomicUsize;

static WALKS: Srcu = Srcu::new();

/// A thread that enters a section at its start and leaves it when it is told.
struct Reader {
    /// 1: inside. 2: told to leave.
    stage: &'static AtomicUsize,
    thread: std::thread::JoinHandle<()>,
}

fn wait_for(stage: &AtomicUsize, wanted: usize) {
    while stage.load(Ordering::Acquire) < wanted {
        std::thread::yield_now();
    }
}

impl Reader {
    fn enter() -> Self {
        let stage: &'static AtomicUsize = Box::leak(Box::new(AtomicUsize::new(0)));
        let thread = std::thread::spawn(move || {
            let own = thread::current();
            let outer = WALKS.read_lock(own);
            let inner = WALKS.read_lock(own);
            WALKS.read_unlock(own, inner);
            stage.store(1, Ordering::Release);
            wait_for(stage, 2);
            WALKS.read_unlock(own, outer);
        });
        wait_for(stage, 1);
        Self { stage, thread }
    }

    fn leave(self) {
        self.stage.store(2, Ordering::Release);
        self.thread.join().expect("no panic");
    }
}

#[test]
fn dv_6_a_grace_period_waits_for_the_readers_of_its_beginning_only() {
    let early = Reader::enter();
    let ticket = WALKS.begin();
    let late = Reader::enter();
    assert!(!WALKS.is_over(ticket));
    early.leave();
    // Readers of other tests may be inside, but not for ever.
    WALKS.wait(ticket);
    assert!(WALKS.is_over(ticket));
    let second = WALKS.begin();
    assert!(!WALKS.is_over(second));
    late.leave();
    WALKS.wait(second);
}

#[test]
fn dv_6_a_sleeping_waiter_is_woken() {
    for _ in 0..50 {
        let reader = Reader::enter();
        let waiter = std::thread::spawn(|| WALKS.synchronize());
        std::thread::yield_now();
        reader.leave();
        waiter.join().expect("no panic");
    }
}

#[test]
fn mo_5_synchronize_sees_what_readers_did() {
    grace_periods_see_what_readers_did(
        |read| {
            let own = thread::current();
            let section = WALKS.read_lock(own);
            read();
            WALKS.read_unlock(own, section);
        },
        || WALKS.synchronize(),
    );
}

/// MO-5: threads use one of two counters in their sections; whoever has switched to the other one and waited for a grace period
/// finds the first at 0.
pub(super) fn grace_periods_see_what_readers_did(section: fn(&dyn Fn()), synchronize: impl Fn()) {
    let which = AtomicUsize::new(0);
    let users = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let stop = AtomicUsize::new(0);
    let read = || {
        let which = which.load(Ordering::Relaxed);
        users[which].fetch_add(1, Ordering::Relaxed);
        std::hint::spin_loop();
        users[which].fetch_sub(1, Ordering::Relaxed);
    };
    std::thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| {
                while stop.load(Ordering::Relaxed) == 0 {
                    section(&read);
                }
            });
        }
        for round in 0..5_000 {
            let old = round % 2;
            which.store(1 - old, Ordering::Relaxed);
            synchronize();
            assert_eq!(users[old].load(Ordering::Relaxed), 0);
        }
        stop.store(1, Ordering::Relaxed);
    });
}
