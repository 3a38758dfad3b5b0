//! The thread that hears of events. Whoever unmaps registered memory sleeps until it has read the event, perhaps with malloc's
//! locks held, or the loader's: so this thread waits for nobody. Raw calls and atomics only; no lock, no allocation, nothing of libc,
//! all signals blocked.
//!
//! It raises the epoch before it reads: when the call that made the event returns, the epoch has risen. One event at a time, so that
//! this is so for each.
//!
//! Its table of descriptors is its own, with the userfaultfd in it and nothing else: a program that closes all descriptors that
//! it does not know cannot take the reader away, nor have it read what is not its own.
#![expect(unsafe_code, reason = "memory that two threads share")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one mapping of our own"
)]

use core::ffi::c_void;
use core::ptr;

use super::cover::PAGE;
use super::teller::{self, Told};
use super::uffd::{Event, Uffd};
use crate::live::epoch::{self, Cause};
use crate::live::queue::Queue;
use crate::live::status::Reason;
use crate::sync::{
    self, AtomicU32, Bell, Ordering, Thread, hook::WaitReason::MMU_NOTIFIER_WAIT_EVENT as EVENT,
    syscall,
};

/// What the thread is doing.
const STARTING: u32 = 0;
const LISTENING: u32 = 1;
const FAILED: u32 = 2;
const ENDING: u32 = 3;

/// What the monitor and who started it have in common. At the beginning of a mapping of two pages; the second one is the bell,
/// registered, so that the monitor wakes when it is dropped.
struct Control {
    uffd: Uffd,
    queue: &'static Queue,
    state: AtomicU32,
    started: Bell,
}

/// A running monitor. Ended by [`Monitor::stop`].
#[derive(Debug)]
pub(in crate::live) struct Monitor {
    control: *mut Control,
    thread: Thread,
}

// SAFETY: What it points to is shared by atomics.
unsafe impl Send for Monitor {}

const SIZE: usize = 2 * PAGE as usize;

impl Monitor {
    /// Opens a userfaultfd and has it read. Allocates: no lock is held.
    pub(in crate::live) fn start() -> Result<Self, Reason> {
        let queue = teller::start().ok_or(Reason::NetThread)?;
        let memory = sync::pages::map(SIZE);
        if memory.is_null() {
            return Err(Reason::Memory);
        }
        let monitor = Uffd::open(bell_of(memory).0)
            .map_err(Reason::of_userfaultfd)
            .and_then(|uffd| Self::start_thread(memory, uffd, queue));
        if monitor.is_err() {
            // SAFETY: Mapped above; nobody else knows it.
            unsafe { sync::pages::unmap(memory, SIZE) };
        }
        monitor
    }

    fn start_thread(memory: *mut u8, uffd: Uffd, queue: &'static Queue) -> Result<Self, Reason> {
        let control = memory.cast::<Control>();
        // SAFETY: Fresh pages.
        unsafe {
            control.write(Control {
                uffd,
                queue,
                state: AtomicU32::new(STARTING),
                started: Bell::new(),
            });
        }
        // SAFETY: The entry point takes what we pass, which outlives the thread.
        let thread = unsafe { sync::start(main, control.cast()) };
        let Some(thread) = thread else {
            uffd.close();
            return Err(Reason::NetThread);
        };
        let monitor = Self { control, thread };
        let state = monitor.control().started.wait(EVENT, None, || {
            // ORDERING: Acquire pairs with the Release in `main`.
            let state = monitor.control().state.load(Ordering::Acquire);
            (state != STARTING).then_some(state)
        });
        if state == Some(LISTENING) {
            return Ok(monitor);
        }
        uffd.close();
        // SAFETY: The thread ends.
        unsafe { monitor.thread.join() };
        Err(Reason::NetThread)
    }

    fn control(&self) -> &Control {
        // SAFETY: Valid until `stop`.
        unsafe { &*self.control }
    }

    pub(super) fn uffd(&self) -> Uffd {
        self.control().uffd
    }

    /// Ends the thread, and all registrations with it. Frees: no lock is held.
    pub(in crate::live) fn stop(self) {
        let control = self.control();
        // ORDERING: Release pairs with the Acquire in `main`.
        control.state.store(ENDING, Ordering::Release);
        let (start, end) = bell_of(self.control.cast());
        let arguments = [
            start as usize,
            (end - start) as usize,
            libc::MADV_DONTNEED as usize,
            0,
            0,
            0,
        ];
        // The monitor's copy is the last one, so that it ends what waits for an answer.
        control.uffd.close();
        // SAFETY: Our page, which holds nothing.
        unsafe {
            syscall(libc::SYS_madvise as usize, arguments);
            self.thread.join();
            sync::pages::unmap(self.control.cast(), SIZE);
        }
    }

    /// In the child of a fork, which has no such thread: gives back what is left of it.
    pub(in crate::live) fn forget(self) {
        self.control().uffd.close();
        // The mapping stays: it was shared by a thread that is not there to say that it is done.
    }
}

fn bell_of(memory: *const u8) -> (u64, u64) {
    let start = memory.addr() as u64 + PAGE;
    (start, start + PAGE)
}

extern "C" fn main(argument: *mut c_void) -> *mut c_void {
    let name = c"mmu_net".as_ptr().expose_provenance();
    let rename = [libc::PR_SET_NAME as usize, name, 0, 0, 0, 0];
    // SAFETY: A static name. What `start_thread` has passed.
    let control = unsafe {
        syscall(libc::SYS_prctl as usize, rename);
        &*argument.cast::<Control>()
    };
    let ready = control.uffd.keep_only().is_ok();
    let state = if ready { LISTENING } else { FAILED };
    // ORDERING: Release pairs with the Acquire in `start_thread`.
    control.state.store(state, Ordering::Release);
    control.started.ring(EVENT);
    if ready {
        listen(control);
        // Before anything of libc, which gives back the thread's stack: that may be watched.
        control.uffd.close();
    }
    ptr::null_mut()
}

fn listen(control: &Control) {
    const RETRY_MS: i64 = 10;
    let bell = bell_of(ptr::from_ref(control).cast());
    // An event found no room: everybody has to be told of everything.
    let mut overflowed = false;
    loop {
        let pending = control.uffd.wait(overflowed.then_some(RETRY_MS));
        // ORDERING: Acquire pairs with the Release in `stop`.
        if control.state.load(Ordering::Acquire) == ENDING {
            break;
        }
        if overflowed {
            overflowed = !Told::Everything.put(control.queue);
        }
        if pending {
            epoch::raise(Cause::Late);
            let event = control.uffd.read();
            overflowed |= event.is_some_and(|event| !hand_on(event, control.queue));
        }
    }
    while let Some(event) = control.uffd.read() {
        if event != Event::Dropped(bell.0, bell.1) {
            epoch::raise(Cause::Late);
            hand_on(event, control.queue);
        }
    }
}

/// False: there was no room.
fn hand_on(event: Event, queue: &Queue) -> bool {
    match event {
        Event::Unmapped(start, end) => Told::Unmapped(start, end).put(queue),
        Event::Dropped(start, end) => Told::Dropped(start, end).put(queue),
        Event::Moved(from, to) => {
            Told::Stray(to.0, to.1).put(queue) && Told::Unmapped(from.0, from.1).put(queue)
        }
    }
}
