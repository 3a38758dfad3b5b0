//! The reader-writer lock behind `mmap_lock` and the reverse-map lock: locked in one call, unlocked in another,
//! possibly by another thread (SPEC ML-5).
//!
//! Strictly first come, first served, with hand-over: whoever releases gives the lock to the head of the queue, and to
//! all readers behind it up to the next writer. So neither a stream of readers nor one of writers starves anybody.
//! Waiters stand in a queue on their own stacks; nothing allocates.
#![expect(unsafe_code, reason = "a queue of waiters on their stacks")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "accesses to one live waiter"
)]

use core::cell::Cell;
use core::ptr;

use super::hook::{self, WaitReason};
use super::{AtomicU32, Lock, Ordering, futex};

/// A reader-writer lock. Zeroed memory is a free one.
#[repr(C)]
#[derive(Debug)]
pub struct rw_semaphore {
    state: Lock<State>,
}

/// Who holds the lock and who waits for it.
#[repr(C)]
#[derive(Debug)]
struct State {
    /// Number of readers, or `WRITER`.
    holders: i32,
    /// The thread that locked it for writing ([`this_thread`]); of use after fork only.
    writer: usize,
    /// Last waiter of a circular queue, or null.
    tail: *mut Waiter,
}

const WRITER: i32 = -1;

/// A thread in the queue, on its own stack.
#[derive(Debug)]
struct Waiter {
    next: *mut Waiter,
    write: bool,
    thread: usize,
    /// 0 until the lock was handed over; after that the waiter may be gone.
    granted: AtomicU32,
}

/// The lock is not held in the way that the caller claims.
#[derive(Debug)]
pub struct NotHeld;

/// How many read locks of its own a thread can keep apart across fork(); more are taken for another thread's.
const NOTED: usize = 8;

thread_local! {
    /// Read locks that this thread took and did not release: what survives in the child of a fork.
    static READS: [Cell<usize>; NOTED] = const { [const { Cell::new(0) }; NOTED] };
}

/// A number that tells live threads apart and is the same in the forking thread's image in the child.
fn this_thread() -> usize {
    READS.with(|reads| ptr::from_ref(reads).addr())
}

impl Default for rw_semaphore {
    fn default() -> Self {
        Self::new()
    }
}

impl rw_semaphore {
    /// A free lock.
    pub const fn new() -> Self {
        Self {
            state: Lock::new(State {
                holders: 0,
                writer: 0,
                tail: ptr::null_mut(),
            }),
        }
    }

    /// Waits until the lock is the caller's, shared with other readers.
    pub fn read_lock(&self, reason: WaitReason) {
        self.lock(false, reason);
        self.note_read();
    }

    /// Waits until the lock is the caller's alone.
    pub fn write_lock(&self, reason: WaitReason) {
        self.lock(true, reason);
    }

    /// Takes the lock for reading unless somebody writes or waits.
    pub fn try_read_lock(&self) -> bool {
        let taken = self.state.lock().try_take(false);
        if taken {
            self.note_read();
        }
        taken
    }

    /// Takes the lock for writing if it is free.
    pub fn try_write_lock(&self) -> bool {
        self.state.lock().try_take(true)
    }

    /// Releases one reader.
    ///
    /// # Errors
    /// `NotHeld` if there is none; nothing is changed.
    pub fn read_unlock(&self, reason: WaitReason) -> Result<(), NotHeld> {
        let mut state = self.state.lock();
        if state.holders <= 0 {
            return Err(NotHeld);
        }
        state.holders -= 1;
        let granted = state.hand_over();
        drop(state);
        self.forget_read();
        wake(granted, reason);
        Ok(())
    }

    /// Releases the writer.
    ///
    /// # Errors
    /// `NotHeld` if there is none; nothing is changed.
    pub fn write_unlock(&self, reason: WaitReason) -> Result<(), NotHeld> {
        self.end_write(0, reason)
    }

    /// Turns the writer into a reader, without letting another writer in between.
    ///
    /// # Errors
    /// `NotHeld` if there is no writer; nothing is changed.
    pub fn downgrade(&self, reason: WaitReason) -> Result<(), NotHeld> {
        self.end_write(1, reason)?;
        self.note_read();
        Ok(())
    }

    /// Is it held, by anybody, in any way?
    pub fn is_locked(&self) -> bool {
        self.state.lock().holders != 0
    }

    /// Is it held for writing, by anybody?
    pub fn is_write_locked(&self) -> bool {
        self.state.lock().holders == WRITER
    }

    /// Before fork: holds the lock's inside still.
    pub fn hold_for_fork(&self) {
        self.state.acquire();
    }

    /// After fork, in the parent: undoes `hold_for_fork`.
    ///
    /// # Safety
    /// This thread called `hold_for_fork`.
    pub unsafe fn release_in_parent(&self) {
        // SAFETY: Held since `hold_for_fork`.
        unsafe { self.state.release() };
    }

    /// After fork, in the child: as in the parent, but what other threads held or waited for is gone.
    ///
    /// # Safety
    /// This thread's image in the parent called `hold_for_fork`.
    pub unsafe fn release_in_child(&self) {
        // SAFETY: Held since `hold_for_fork`; there is one thread.
        let state = unsafe { self.state.data() };
        state.tail = ptr::null_mut();
        let keep = state.holders == WRITER && state.writer == this_thread();
        if !keep {
            state.holders = state.holders.clamp(0, self.noted_reads());
        }
        // SAFETY: As above.
        unsafe { self.state.release() };
    }

    fn lock(&self, write: bool, reason: WaitReason) {
        let mut state = self.state.lock();
        if state.try_take(write) {
            return;
        }
        let mut waiter = Waiter {
            next: ptr::null_mut(),
            write,
            thread: this_thread(),
            granted: AtomicU32::new(0),
        };
        let place = &raw mut waiter;
        state.enqueue(place);
        drop(state);
        // SAFETY: The waiter lives on this stack until it was granted.
        let granted = unsafe { &(*place).granted };
        let queue = granted.as_ptr().cast();
        let _slept = hook::wait_begin(queue, reason);
        // ORDERING: Acquire pairs with the Release in `wake`: what earlier holders did is visible.
        while granted.load(Ordering::Acquire) == 0 {
            futex::wait(granted, 0);
        }
        hook::wait_end(queue, reason);
    }

    fn end_write(&self, readers: i32, reason: WaitReason) -> Result<(), NotHeld> {
        let mut state = self.state.lock();
        if state.holders != WRITER {
            return Err(NotHeld);
        }
        state.holders = readers;
        let granted = state.hand_over();
        drop(state);
        wake(granted, reason);
        Ok(())
    }

    fn note_read(&self) {
        replace_note(0, ptr::from_ref(self).addr());
    }

    fn forget_read(&self) {
        replace_note(ptr::from_ref(self).addr(), 0);
    }

    fn noted_reads(&self) -> i32 {
        let me = ptr::from_ref(self).addr();
        READS.with(|reads| reads.iter().map(|note| i32::from(note.get() == me)).sum())
    }
}

/// Replaces the first note that is `old` by `new`; without one, nothing happens.
fn replace_note(old: usize, new: usize) {
    READS.with(|reads| {
        if let Some(note) = reads.iter().find(|note| note.get() == old) {
            note.set(new);
        }
    });
}

impl State {
    /// Takes the lock if nobody waits and the holders allow it.
    fn try_take(&mut self, write: bool) -> bool {
        let free = self.tail.is_null() && self.admits(write);
        if free {
            self.take(write, this_thread());
        }
        free
    }

    fn admits(&self, write: bool) -> bool {
        if write {
            self.holders == 0
        } else {
            self.holders >= 0
        }
    }

    fn take(&mut self, write: bool, thread: usize) {
        if write {
            self.holders = WRITER;
            self.writer = thread;
        } else {
            self.holders += 1;
        }
    }

    fn enqueue(&mut self, waiter: *mut Waiter) {
        // SAFETY: The new waiter is the caller's. Queued ones are alive: each sleeps in `lock` until `hand_over` has taken it
        // out.
        unsafe {
            if self.tail.is_null() {
                (*waiter).next = waiter;
            } else {
                (*waiter).next = (*self.tail).next;
                (*self.tail).next = waiter;
            }
        }
        self.tail = waiter;
    }

    /// Gives the lock to as many waiters as it admits, in order. Returns them as a list through `next`.
    fn hand_over(&mut self) -> *mut Waiter {
        let mut granted: *mut Waiter = ptr::null_mut();
        while !self.tail.is_null() {
            // SAFETY: Queued waiters are alive.
            let first = unsafe { (*self.tail).next };
            // SAFETY: As above.
            let (write, thread) = unsafe { ((*first).write, (*first).thread) };
            if !self.admits(write) {
                break;
            }
            self.take(write, thread);
            if first == self.tail {
                self.tail = ptr::null_mut();
            } else {
                // SAFETY: As above; `first` is not the only one.
                unsafe { (*self.tail).next = (*first).next };
            }
            // SAFETY: Taken out, but not told yet: still alive.
            unsafe { (*first).next = granted };
            granted = first;
        }
        granted
    }
}

/// Tells the waiters of a `granted` list that the lock is theirs.
fn wake(mut granted: *mut Waiter, reason: WaitReason) {
    while !granted.is_null() {
        // SAFETY: A waiter lives until it has seen `granted`.
        let (word, next) = unsafe { (&(*granted).granted, (*granted).next) };
        let address = word.as_ptr();
        hook::wake(address.cast(), reason);
        // ORDERING: Release pairs with the Acquire in `rw_semaphore::lock`. After it, the waiter may be gone.
        word.store(1, Ordering::Release);
        futex::wake(address, 1);
        granted = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::AtomicUsize;

    const WHY: WaitReason = WaitReason::MMU_NOTIFIER_WAIT_MMAP_LOCK;

    #[test]
    fn ml_5_trylocks_and_downgrade() {
        let sem = rw_semaphore::new();
        assert!(sem.try_read_lock() && sem.try_read_lock() && !sem.try_write_lock());
        sem.read_unlock(WHY).expect("held");
        sem.read_unlock(WHY).expect("held");
        assert!(sem.read_unlock(WHY).is_err() && sem.write_unlock(WHY).is_err());
        assert!(sem.try_write_lock() && !sem.try_read_lock() && sem.is_write_locked());
        sem.downgrade(WHY).expect("held");
        assert!(sem.try_read_lock() && sem.is_locked() && !sem.is_write_locked());
    }

    #[test]
    fn ml_5_writers_exclude() {
        static SEM: rw_semaphore = rw_semaphore::new();
        static A: AtomicUsize = AtomicUsize::new(0);
        static B: AtomicUsize = AtomicUsize::new(0);
        let work = |write: bool| {
            move || {
                for _ in 0..5_000 {
                    if write {
                        SEM.write_lock(WHY);
                        A.fetch_add(1, Ordering::Relaxed);
                        B.fetch_add(1, Ordering::Relaxed);
                        SEM.write_unlock(WHY).expect("held");
                    } else {
                        SEM.read_lock(WHY);
                        assert_eq!(A.load(Ordering::Relaxed), B.load(Ordering::Relaxed));
                        SEM.read_unlock(WHY).expect("held");
                    }
                }
            }
        };
        let threads: Vec<_> = (0..4)
            .map(|n| std::thread::spawn(work(n % 2 == 0)))
            .collect();
        for thread in threads {
            thread.join().expect("no panic");
        }
        assert_eq!(A.load(Ordering::Relaxed), 10_000);
        assert!(!SEM.is_locked());
    }
}
