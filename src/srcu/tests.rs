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
    static WHICH: AtomicUsize = AtomicUsize::new(0);
    static USERS: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];
    static STOP: AtomicUsize = AtomicUsize::new(0);
    let readers: Vec<_> = (0..3)
        .map(|_| {
            std::thread::spawn(|| {
                let own = thread::current();
                while STOP.load(Ordering::Relaxed) == 0 {
                    let section = WALKS.read_lock(own);
                    let which = WHICH.load(Ordering::Relaxed);
                    USERS[which].fetch_add(1, Ordering::Relaxed);
                    std::hint::spin_loop();
                    USERS[which].fetch_sub(1, Ordering::Relaxed);
                    WALKS.read_unlock(own, section);
                }
            })
        })
        .collect();
    for round in 0..5_000 {
        let old = round % 2;
        WHICH.store(1 - old, Ordering::Relaxed);
        WALKS.synchronize();
        assert_eq!(USERS[old].load(Ordering::Relaxed), 0);
    }
    STOP.store(1, Ordering::Relaxed);
    for reader in readers {
        reader.join().expect("no panic");
    }
}
