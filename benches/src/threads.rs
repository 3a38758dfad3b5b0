// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pinned threads: the main thread has the first CPU, whoever runs beside it the second.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use crate::harness::nanoseconds;

/// CPUs that this process may use.
pub(crate) fn cpus() -> &'static [usize] {
    static ALL: OnceLock<Vec<usize>> = OnceLock::new();
    ALL.get_or_init(|| {
        // SAFETY: All zero is an empty set.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: The set is as large as its size says, and no CPU is beyond it.
        unsafe {
            libc::sched_getaffinity(0, size_of_val(&set), &raw mut set);
            (0..libc::CPU_SETSIZE as usize)
                .filter(|&cpu| libc::CPU_ISSET(cpu, &set))
                .collect()
        }
    })
}

pub(crate) fn pin(index: usize) {
    // 0 is who calls.
    place(&[0], &cpus()[index..=index]);
}

/// All threads of this process.
pub(crate) fn all() -> Vec<libc::pid_t> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let names = tasks.filter_map(|task| task.ok()?.file_name().into_string().ok());
    names.filter_map(|name| name.parse().ok()).collect()
}

/// Has some threads run on these CPUs only.
pub(crate) fn place(threads: &[libc::pid_t], on: &[usize]) {
    // SAFETY: All zero is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &cpu in on {
        // SAFETY: The set is as large as its size says, and no CPU is beyond it.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    for &thread in threads {
        // SAFETY: As above; a thread that is none any more is an error, and nothing else.
        unsafe { libc::sched_setaffinity(thread, size_of_val(&set), &raw const set) };
    }
}

/// Without a second thread glibc's locks leave their atomic operations out: a measurement of a program with threads needs one.
pub(crate) fn be_multi_threaded() {
    thread::spawn(|| {
        loop {
            thread::park();
        }
    });
}

/// A thread that takes part in something: `attach` when it begins, `detach` when it ends.
pub(crate) struct Part<A: Fn(), D: Fn()> {
    attach: A,
    detach: D,
    attached: bool,
}

impl<A: Fn(), D: Fn()> Part<A, D> {
    pub(crate) fn new(attach: A, detach: D) -> Self {
        Self {
            attach,
            detach,
            attached: false,
        }
    }

    /// On the thread that takes part, where this is dropped too.
    pub(crate) fn begin(&mut self) {
        if !self.attached {
            (self.attach)();
            self.attached = true;
        }
    }
}

impl<A: Fn(), D: Fn()> Drop for Part<A, D> {
    fn drop(&mut self) {
        if self.attached {
            (self.detach)();
        }
    }
}

/// Operations that whoever runs beside does between two looks at the clock, so to speak.
const CHUNK: u64 = 64;

/// Runs `first` here while `second` is at work on the other CPU, again and again. Nanoseconds that `first` took, and how many
/// operations `second` did meanwhile.
pub(crate) fn beside(first: impl FnOnce(), second: impl FnMut(u64) + Send) -> (f64, u64) {
    let running = AtomicBool::new(false);
    let over = AtomicBool::new(false);
    let done = AtomicU64::new(0);
    thread::scope(|scope| {
        let mut second = second;
        let (running, over, done) = (&running, &over, &done);
        scope.spawn(move || {
            pin(1);
            second(CHUNK);
            running.store(true, Ordering::Release);
            while !over.load(Ordering::Relaxed) {
                second(CHUNK);
                done.fetch_add(CHUNK, Ordering::Relaxed);
            }
            drop(second);
        });
        while !running.load(Ordering::Acquire) {
            thread::yield_now();
        }
        let before = done.load(Ordering::Relaxed);
        let start = Instant::now();
        first();
        let took = nanoseconds(start);
        let after = done.load(Ordering::Relaxed);
        over.store(true, Ordering::Relaxed);
        (took, after - before)
    })
}
