//! Events in a queue: for a language whose code cannot run inside a system call.
//!
//! A [`Queue`] has room for a fixed number of events. A [`Watch`] puts each change of its range there: an interval notifier,
//! called by the thread that makes the change, before it does so. Readers take them out whenever they like, or sleep until there is one.
//! So a reader hears of a change when it may be made already: who must not use stale memory asks for the number of the watch
//! ([`Watch::read_begin`], [`Watch::read_retry`]), which the event has raised by then.
//!
//! Invariants
//! * Putting an event in allocates nothing, takes no lock and never sleeps: atomics, and a wake if somebody sleeps.
//! * An event that finds no room is counted as lost, and the epoch rises: so the reader knows that it has missed something.
//! * A slot's turn says whose it is: position `p`'s writer at `p`, its reader at `p + 1`, the next round's writer at `p + capacity`.
#![expect(unsafe_code, reason = "an interval notifier is a callback of C")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "accesses to one live watch"
)]

use core::ffi::{c_uint, c_ulong};
use core::mem::ManuallyDrop;
use core::ptr;

use super::epoch::{self, Cause};
use crate::abi::mm::mm_struct;
use crate::abi::notifier::{mmu_interval_notifier, mmu_interval_notifier_ops, mmu_notifier_range};
use crate::dispatch::REFERENCE;
use crate::mm::{self, Request};
use crate::report::{Error, Result};
use crate::sync::{
    Arc, AtomicU32, AtomicU64, Bell, Deadline, Ordering,
    hook::WaitReason::MMU_NOTIFIER_WAIT_EVENT as EVENT,
};

/// A change of watched memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What the watch was given.
    pub cookie: u64,
    /// First byte of the change.
    pub start: u64,
    /// One past its last byte.
    pub end: u64,
    /// Why: a `mmu_notifier_event`.
    pub event: u32,
}

/// Room for one event.
#[derive(Debug)]
struct Slot {
    turn: AtomicU64,
    words: [AtomicU64; 4],
}

/// Events that have happened and were not read. Shared by its clones.
#[derive(Clone, Debug)]
pub struct Queue(Arc<Ring>);

#[derive(Debug)]
struct Ring {
    slots: Box<[Slot]>,
    /// Where the next event goes.
    head: AtomicU64,
    /// Where the next event is read.
    tail: AtomicU64,
    lost: AtomicU64,
    closed: AtomicU32,
    bell: Bell,
}

impl Queue {
    /// A queue with room for `capacity` events, rounded up to a power of two, at least 2.
    ///
    /// # Errors
    /// EINVAL: no room at all, or more than 2^31; ENOMEM.
    pub fn new(capacity: usize) -> Result<Self> {
        if capacity == 0 || capacity > 1 << 31 {
            return Err(Error::Errno(libc::EINVAL));
        }
        // In one slot, the turns of a reader and of the next round's writer would be the same.
        let capacity = capacity.next_power_of_two().max(2);
        let mut slots = Vec::new();
        slots
            .try_reserve_exact(capacity)
            .map_err(|_| Error::Errno(libc::ENOMEM))?;
        slots.extend((0..capacity as u64).map(|turn| Slot {
            turn: AtomicU64::new(turn),
            words: [const { AtomicU64::new(0) }; 4],
        }));
        Ok(Self(Arc::new(Ring {
            slots: slots.into_boxed_slice(),
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            closed: AtomicU32::new(0),
            bell: Bell::new(),
        })))
    }

    /// Puts each change of `length` bytes from `start` on into the queue, with `cookie`, until the watch is dropped.
    ///
    /// # Errors
    /// As `mm::insert`.
    ///
    /// # Safety
    /// The caller owns a user of `mm`; the process's own always has one.
    pub unsafe fn watch_in(
        &self,
        mm: *mut mm_struct,
        start: u64,
        length: u64,
        cookie: u64,
    ) -> Result<Watch> {
        let queue = self.clone();
        let inner = Box::into_raw(Box::new(Inner {
            // SAFETY: A C struct: zeroes are values of all of its members.
            interval: unsafe { core::mem::zeroed() },
            queue,
            cookie,
        }));
        let request = Request {
            interval_sub: inner.cast(),
            mm,
            start,
            length,
            ops: &raw const OPS,
            abi: REFERENCE,
        };
        // SAFETY: The watch is valid until it is dropped; the caller's promise.
        match unsafe { mm::insert(&request) } {
            Ok(()) => Ok(Watch(inner)),
            Err(error) => {
                // SAFETY: Boxed above, and not inserted.
                drop(unsafe { Box::from_raw(inner) });
                Err(error)
            }
        }
    }

    /// As [`Queue::watch_in`], in the process's own address space.
    ///
    /// # Errors
    /// As `mm::insert`.
    pub fn watch(&self, start: u64, length: u64, cookie: u64) -> Result<Watch> {
        // SAFETY: The process's own mm has users as long as the process.
        unsafe { self.watch_in(mm::process_mm(), start, length, cookie) }
    }

    /// Puts an event in. False: there is no room; that is counted, and the epoch has risen. Never sleeps.
    pub fn push(&self, event: Event) -> bool {
        let put = self.0.push(event);
        if !put {
            // ORDERING: Relaxed: a counter; the epoch publishes it.
            self.0.lost.fetch_add(1, Ordering::Relaxed);
            epoch::raise(Cause::Overflow);
        }
        self.0.bell.ring(EVENT);
        put
    }

    /// Takes the oldest event out, if there is one. Never sleeps.
    pub fn pop(&self) -> Option<Event> {
        self.0.pop()
    }

    /// Takes the oldest event out, and sleeps until there is one. None: the queue is closed and empty, or `timeout_ms` milliseconds
    /// are over.
    pub fn wait(&self, timeout_ms: Option<u32>) -> Option<Event> {
        let deadline = timeout_ms.map(Deadline::after);
        let look = || {
            let event = self.pop();
            // ORDERING: Acquire pairs with the Release in `close`.
            let closed = || self.0.closed.load(Ordering::Acquire) != 0;
            (event.is_some() || closed()).then_some(event)
        };
        self.0.bell.wait(EVENT, deadline.as_ref(), look).flatten()
    }

    /// Nobody sleeps in [`Queue::wait`] any more. Events still come in.
    pub fn close(&self) {
        // ORDERING: Release pairs with the Acquire in `wait`.
        self.0.closed.store(1, Ordering::Release);
        self.0.bell.ring(EVENT);
    }

    /// Events that found no room.
    pub fn lost(&self) -> u64 {
        // ORDERING: Relaxed: a counter.
        self.0.lost.load(Ordering::Relaxed)
    }
}

impl Ring {
    fn slot(&self, position: u64) -> &Slot {
        &self.slots[position as usize & (self.slots.len() - 1)]
    }

    fn push(&self, event: Event) -> bool {
        // ORDERING: Relaxed: only a hint; the slot's turn decides.
        let mut position = self.head.load(Ordering::Relaxed);
        loop {
            let slot = self.slot(position);
            // ORDERING: Acquire pairs with the Release of the reader that left the slot.
            let turn = slot.turn.load(Ordering::Acquire);
            if turn < position {
                return false;
            }
            if turn == position && claim(&self.head, position) {
                slot.write(event);
                // ORDERING: Release pairs with the Acquire in `pop`.
                slot.turn.store(position + 1, Ordering::Release);
                return true;
            }
            // ORDERING: Relaxed: as above.
            position = self.head.load(Ordering::Relaxed);
        }
    }

    fn pop(&self) -> Option<Event> {
        // ORDERING: Relaxed: only a hint; the slot's turn decides.
        let mut position = self.tail.load(Ordering::Relaxed);
        loop {
            let slot = self.slot(position);
            // ORDERING: Acquire pairs with the Release of the writer.
            let turn = slot.turn.load(Ordering::Acquire);
            if turn <= position {
                return None;
            }
            if turn == position + 1 && claim(&self.tail, position) {
                let event = slot.read();
                let next_round = position + self.slots.len() as u64;
                // ORDERING: Release pairs with the Acquire in `push`.
                slot.turn.store(next_round, Ordering::Release);
                return Some(event);
            }
            // ORDERING: Relaxed: as above.
            position = self.tail.load(Ordering::Relaxed);
        }
    }
}

/// Takes `position`, unless another thread was faster.
fn claim(next: &AtomicU64, position: u64) -> bool {
    // ORDERING: Relaxed: whose the slot is, its turn says; here threads of one side agree among themselves.
    next.compare_exchange(position, position + 1, Ordering::Relaxed, Ordering::Relaxed)
        .is_ok()
}

impl Slot {
    fn write(&self, event: Event) {
        let words = [event.cookie, event.start, event.end, event.event.into()];
        for (to, from) in self.words.iter().zip(words) {
            // ORDERING: Relaxed: published by the slot's turn.
            to.store(from, Ordering::Relaxed);
        }
    }

    fn read(&self) -> Event {
        // ORDERING: Relaxed: acquired with the slot's turn.
        let word = |index: usize| self.words[index].load(Ordering::Relaxed);
        Event {
            cookie: word(0),
            start: word(1),
            end: word(2),
            event: word(3) as u32,
        }
    }
}

/// What the library calls. Begins with its notifier.
#[repr(C)]
#[derive(Debug)]
struct Inner {
    interval: mmu_interval_notifier,
    queue: Queue,
    cookie: u64,
}

/// A range whose changes go into a queue. Dropping it ends that; drop it outside callbacks: it may sleep until a change that is
/// under way is over.
#[derive(Debug)]
pub struct Watch(*mut Inner);

// SAFETY: The library guards the notifier; the rest is constant, or atomics.
unsafe impl Send for Watch {}
// SAFETY: As above.
unsafe impl Sync for Watch {}

static OPS: mmu_interval_notifier_ops = mmu_interval_notifier_ops {
    invalidate: Some(invalidate),
};

unsafe extern "C" fn invalidate(
    interval: *mut mmu_interval_notifier,
    range: *const mmu_notifier_range,
    seq: c_ulong,
) -> bool {
    const { assert!(core::mem::offset_of!(Inner, interval) == 0) };
    // SAFETY: An inserted watch and a range that is being announced.
    let (inner, range) = unsafe { (&*interval.cast::<Inner>(), &*range) };
    // SAFETY: As above; the word has the size and alignment of an AtomicU64.
    let number = unsafe { AtomicU64::from_ptr(&raw mut (*interval).invalidate_seq) };
    // ORDERING: Release pairs with the Acquire in `read_retry` and in the core's read_begin. Events of one busy period store the same.
    number.store(seq, Ordering::Release);
    inner.queue.push(Event {
        cookie: inner.cookie,
        start: range.start,
        end: range.end,
        event: c_uint::from(range.event.0),
    });
    true
}

impl Watch {
    /// The number to validate with what is read or mapped from now on. Sleeps while a change of the range is under way.
    ///
    /// # Errors
    /// DV-7: inside a callback of that change.
    pub fn read_begin(&self) -> Result<u64> {
        // SAFETY: Inserted.
        unsafe { mm::read_begin(self.0.cast()) }
    }

    /// Has the range changed since `seq` was taken, or is it about to?
    pub fn read_retry(&self, seq: u64) -> bool {
        // SAFETY: Inserted, hence valid; the word has the size and alignment of an AtomicU64.
        let number = unsafe { AtomicU64::from_ptr(&raw mut (*self.0).interval.invalidate_seq) };
        // ORDERING: Acquire: what was read before the question stays before it by the fence.
        crate::sync::fence::fence(Ordering::Acquire);
        // ORDERING: Acquire pairs with the Release in `invalidate`.
        number.load(Ordering::Acquire) != seq
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // SAFETY: Inserted by `watch_in`, boxed there.
        let (removed, inner) = unsafe {
            (
                mm::remove(self.0.cast()),
                ManuallyDrop::new(Box::from_raw(self.0)),
            )
        };
        match removed {
            Ok(()) => drop(ManuallyDrop::into_inner(inner)),
            // Still called: its memory is not given back.
            Err(Error::Misuse(misuse)) => misuse.report(),
            Err(Error::Errno(_)) => {}
        }
        self.0 = ptr::null_mut();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::notifier::{
        MMU_NOTIFIER_RANGE_BLOCKABLE, mmu_notifier_event::MMU_NOTIFY_CLEAR,
    };

    fn event(cookie: u64) -> Event {
        Event {
            cookie,
            start: 1,
            end: 2,
            event: 0,
        }
    }

    #[test]
    fn events_come_out_in_order_and_what_finds_no_room_is_counted() {
        let queue = Queue::new(3).expect("memory");
        let before = epoch::epoch();
        for round in 0..3 {
            for cookie in 0..4 {
                assert!(queue.push(event(cookie)));
            }
            assert!(!queue.push(event(4)));
            assert_eq!(queue.lost(), round + 1);
            for cookie in 0..4 {
                assert_eq!(queue.pop(), Some(event(cookie)));
            }
            assert_eq!(queue.pop(), None);
        }
        assert!(epoch::epoch() >= before + 3);
        assert!(Queue::new(0).is_err());
        let smallest = Queue::new(1).expect("memory");
        assert_eq!(
            [0, 1, 2].map(|cookie| smallest.push(event(cookie))),
            [true, true, false]
        );
    }

    #[test]
    fn a_reader_sleeps_until_there_is_something() {
        let queue = Queue::new(64).expect("memory");
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let queue = queue.clone();
                std::thread::spawn(move || {
                    for number in 0..10_000 {
                        while !queue.push(event(number * 2 + writer)) {
                            std::thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let mut next = [0, 0];
        for _ in 0..20_000 {
            let cookie = queue.wait(None).expect("open").cookie;
            let (number, writer) = (cookie / 2, (cookie % 2) as usize);
            assert_eq!(number, next[writer], "in each writer's order");
            next[writer] += 1;
        }
        writers
            .into_iter()
            .for_each(|writer| writer.join().expect("no panic"));
        assert_eq!(queue.wait(Some(5)), None, "the time is over");
        queue.close();
        assert_eq!(queue.wait(None), None, "closed");
        assert!(queue.push(event(7)));
        assert_eq!(
            queue.wait(None),
            Some(event(7)),
            "what is there is read first"
        );
    }

    #[test]
    fn a_watch_puts_changes_of_its_range_into_the_queue() {
        let queue = Queue::new(8).expect("memory");
        let mm = mm::mm_alloc();
        // SAFETY: A fresh mm with one user.
        let watch = unsafe { queue.watch_in(mm, 0x1000, 0x1000, 77) }.expect("inserted");
        let seq = watch.read_begin().expect("outside callbacks");
        assert!(!watch.read_retry(seq));
        for start in [0x0, 0x1800, 0x2000] {
            let mut range = mmu_notifier_range {
                mm,
                start,
                end: start + 0x100,
                flags: MMU_NOTIFIER_RANGE_BLOCKABLE,
                event: MMU_NOTIFY_CLEAR.into(),
                owner: ptr::null_mut(),
            };
            // SAFETY: The range is ours, its mm has a user.
            unsafe {
                mm::invalidate_range_start(&raw mut range).expect("no misuse");
                mm::invalidate_range_end(&raw mut range, false).expect("no misuse");
            }
        }
        let wanted = Event {
            cookie: 77,
            start: 0x1800,
            end: 0x1900,
            event: 1,
        };
        assert_eq!((queue.pop(), queue.pop()), (Some(wanted), None));
        assert!(watch.read_retry(seq));
        drop(watch);
        // SAFETY: Our user.
        unsafe { mm::mmput(mm) }.expect("outside callbacks");
    }
}
