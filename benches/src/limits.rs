// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the machine allows, printed first: numbers of another machine can be read against it.

use std::ffi::{c_int, c_ulong, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{Candidate, Race, Settings, nanoseconds, race};
use crate::threads::{beside, cpus, pin};

unsafe extern "C" {
    safe fn limit_call(n: c_ulong);
    safe fn limit_increment(n: c_ulong);
    safe fn limit_fence(n: c_ulong);
    safe fn limit_add(n: c_ulong);
    safe fn limit_compare_exchange(n: c_ulong);
    safe fn limit_spin_lock(n: c_ulong);
    safe fn limit_mutex(n: c_ulong);
    safe fn limit_rwlock(n: c_ulong);
    safe fn limit_syscall(n: c_ulong);
    safe fn limit_futex_wake(n: c_ulong);
    safe fn limit_membarrier_ready() -> c_int;
    safe fn limit_membarrier(n: c_ulong);
    safe fn limit_ping(n: c_ulong);
    safe fn limit_pong(n: c_ulong);
    safe fn limit_chase_new(bytes: c_ulong) -> *mut c_void;
    fn limit_chase_free(at: *mut c_void, bytes: c_ulong);
    fn limit_chase(at: *mut c_void, n: c_ulong) -> *mut c_void;
}

/// Can this process have membarriers?
pub(crate) fn has_membarrier() -> bool {
    limit_membarrier_ready() != 0
}

pub(crate) fn membarrier(n: u64) {
    limit_membarrier(n);
}

struct Chase {
    memory: *mut c_void,
    bytes: u64,
    at: *mut c_void,
}

impl Chase {
    fn new(bytes: u64) -> Self {
        let memory = limit_chase_new(bytes);
        Self {
            memory,
            bytes,
            at: memory,
        }
    }

    fn run(&mut self, n: u64) {
        // SAFETY: Each word leads to another one.
        self.at = unsafe { limit_chase(self.at, n) };
    }
}

impl Drop for Chase {
    fn drop(&mut self) {
        // SAFETY: It was made of so many bytes.
        unsafe { limit_chase_free(self.memory, self.bytes) };
    }
}

const PRIMITIVES: [(&str, extern "C" fn(c_ulong)); 10] = [
    ("indirect call", limit_call),
    ("increment in memory", limit_increment),
    ("full fence", limit_fence),
    ("atomic add", limit_add),
    ("atomic compare-exchange", limit_compare_exchange),
    ("spin lock, taken and dropped", limit_spin_lock),
    ("pthread mutex, taken and dropped", limit_mutex),
    ("pthread rwlock, read and dropped", limit_rwlock),
    ("system call (getppid)", limit_syscall),
    ("futex wake, nobody asleep", limit_futex_wake),
];

const SIZES: [(&str, u64); 4] = [
    ("16 KB", 16 << 10),
    ("512 KB", 512 << 10),
    ("16 MB", 16 << 20),
    ("256 MB", 256 << 20),
];

pub(crate) fn measure(settings: &Settings) -> Race {
    let mut chases: Vec<Chase> = SIZES.map(|(_, bytes)| Chase::new(bytes)).into();
    let mut candidates: Vec<Candidate<'_>> = PRIMITIVES
        .into_iter()
        .map(|(name, primitive)| Candidate::new(name, move |n| primitive(n)))
        .collect();
    if has_membarrier() {
        candidates.push(Candidate::new(
            "membarrier, no thread running beside",
            membarrier,
        ));
        if cpus().len() > 1 {
            candidates.push(Candidate::timed(
                "membarrier, a thread running beside",
                |n| beside(|| membarrier(n), |chunk| limit_increment(chunk)).0,
            ));
        }
    }
    if cpus().len() > 1 {
        candidates
            .push(Candidate::timed("futex wake, a thread asleep on another CPU", wake_up).of(100));
        candidates.push(Candidate::timed("a word to another CPU and back", ping_pong).of(10_000));
    }
    for (chase, (name, _)) in chases.iter_mut().zip(SIZES) {
        candidates.push(Candidate::new(format!("dependent load, {name}"), |n| {
            chase.run(n)
        }));
    }
    race("Limits of the machine", settings, candidates)
}

/// What it costs the one who wakes.
fn wake_up(n: u64) -> f64 {
    const ASLEEP_BY_NOW: Duration = Duration::from_micros(100);
    let ended = AtomicBool::new(false);
    let mut took = 0.0;
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| {
            pin(1);
            // ORDERING: none is needed: it is looked at again after each wake.
            while !ended.load(Ordering::Relaxed) {
                std::thread::park();
            }
        });
        for _ in 0..n {
            let before = Instant::now();
            while before.elapsed() < ASLEEP_BY_NOW {
                std::hint::spin_loop();
            }
            let start = Instant::now();
            sleeper.thread().unpark();
            took += nanoseconds(start);
        }
        // ORDERING: as above.
        ended.store(true, Ordering::Relaxed);
        sleeper.thread().unpark();
    });
    took
}

fn ping_pong(n: u64) -> f64 {
    let ready = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(1);
            // ORDERING: none is needed: the time begins when both run.
            ready.store(true, Ordering::Relaxed);
            limit_pong(n);
        });
        while !ready.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        let start = Instant::now();
        limit_ping(n);
        nanoseconds(start)
    })
}
