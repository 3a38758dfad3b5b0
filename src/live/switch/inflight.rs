//! Calls that were in the kernel before their site was ours.
//!
//! Sites are written while threads run. A thread that went through one before may be in the kernel still, and take memory away that
//! nobody is told of. So who has written sites looks where each thread is (/proc/self/task), and waits for those that are in a
//! call that changes mappings; but not for ever. A thread that runs may be in the kernel or not, nothing says it: it is looked
//! at again, until it sleeps elsewhere, or has spent a while outside the kernel and none inside.
//!
//! As long as one is left, whoever asks for the epoch gets a new one, so that what was validated holds for no moment longer, and looks
//! again. An insert does so, too, and is counted as missed.
//!
//! Invariants
//! * From before the first site is written until all threads were seen elsewhere, `epoch::is_unsure`.
//! * A look allocates nothing, and waits for nobody: it may be made in a callback.
//!
//! Lock order: the lock is a leaf. fork does not hold it; its child begins anew.
#![expect(unsafe_code, reason = "begins anew in a child")]

use core::ops::Range;

use crate::live::epoch::{self, Cause};
use crate::live::events::classify::{UFFDIO_MOVE, UFFDIO_WRITEPROTECT};
use crate::live::look::{File, Name};
use crate::live::sites::objects;
use crate::live::x86_64::gate;
use crate::mm::WATCHED;
use crate::sync::hook::WaitReason::MMU_NOTIFIER_WAIT_GRACE_PERIOD as GRACE_PERIOD;
use crate::sync::{AtomicU32, Bell, Deadline, Lock, Ordering, is_alive, own_id, yield_now};

/// How long to wait for a thread that is in such a call, and for one that runs, in milliseconds.
const PATIENCE: u32 = 1000;
const PATIENCE_RUNNING: u32 = 2;
/// Looks before the first sleep.
const YIELDS: u32 = 2;

/// A thread that may be in a call that it began when its site was not ours yet.
#[derive(Debug)]
struct Suspect {
    thread: i32,
    /// The ticks that it had spent outside and inside the kernel when it was last seen inside.
    spent: Option<[u64; 2]>,
    /// It was seen in such a call: while it runs now, it may be on its way out.
    was_inside: bool,
}

#[derive(Debug)]
struct Suspects {
    threads: Vec<Suspect>,
    /// Who has begun to write sites, and has not said yet whom to suspect.
    writers: u32,
    /// The library's code: calls that it makes are announced, or in a section that who subscribes waits for.
    own_code: Range<usize>,
}

impl Suspects {
    const NONE: Self = Self {
        threads: Vec::new(),
        writers: 0,
        own_code: 0..0,
    };
}

static SUSPECTS: Lock<Suspects> = Lock::new(Suspects::NONE);
/// Where threads are cannot be known here.
static UNKNOWN: AtomicU32 = AtomicU32::new(0);

/// Where a thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::live) enum Place {
    /// In no call that changes mappings; or gone.
    Elsewhere,
    /// On a processor, or waiting for one.
    Running,
    /// In such a call.
    Inside,
}

/// Sites are about to be written.
pub(super) fn begin() {
    SUSPECTS.lock().writers += 1;
    epoch::set_unsure(true);
}

/// No site was written.
pub(super) fn cancel() {
    SUSPECTS.lock().writers -= 1;
    look_again();
}

/// Can nobody know where threads are?
pub(super) fn is_unknown() -> bool {
    // ORDERING: Relaxed: said in the status.
    UNKNOWN.load(Ordering::Relaxed) != 0
}

/// Sites were written: from now on each thread but this one is suspect. No lock is held.
pub(super) fn suspect_all() {
    let suspects = threads();
    // ORDERING: Relaxed: as in `is_unknown`.
    UNKNOWN.store(suspects.is_none().into(), Ordering::Relaxed);
    if suspects.is_none() {
        epoch::raise(Cause::Missed);
    }
    let mut suspects = suspects.unwrap_or_default();
    let own_code = own_code();
    let mut known = SUSPECTS.lock();
    known.own_code = own_code;
    core::mem::swap(&mut known.threads, &mut suspects);
    known.writers -= 1;
    drop(known);
    // What is dropped now was allocated.
    drop(suspects);
}

/// Waits until no suspect is left, within bounds.
pub(super) fn settle() {
    let nobody = Bell::new();
    let mut waited = 0;
    for round in 0.. {
        let limit = match look_again() {
            Place::Elsewhere => return,
            Place::Running => PATIENCE_RUNNING,
            Place::Inside => PATIENCE,
        };
        if waited >= limit {
            break;
        }
        if round < YIELDS {
            yield_now();
        } else {
            let soon = Deadline::after(1);
            nobody.wait(GRACE_PERIOD, Some(&soon), || None::<()>);
            waited += 1;
        }
    }
    // Who subscribes after this look is noted (`note_subscription`).
    if WATCHED.hull().is_some() {
        epoch::raise(Cause::Missed);
    }
}

/// Somebody subscribed. While there are suspects, one may be about to take away what he maps now.
pub(super) fn note_subscription() {
    if epoch::is_unsure() && look_again() != Place::Elsewhere {
        epoch::raise(Cause::Missed);
    }
}

/// Looks at all suspects again, and forgets those that are elsewhere. Says what is the worst of them.
pub(in crate::live) fn look_again() -> Place {
    // Who has the lock looks, or makes a new list.
    let Some(mut suspects) = SUSPECTS.try_lock() else {
        return Place::Running;
    };
    if suspects.writers > 0 {
        return Place::Running;
    }
    let mut worst = Place::Elsewhere;
    let own_code = suspects.own_code.clone();
    suspects.threads.retain_mut(|suspect| {
        let place = suspect.look(&own_code);
        worst = worst.max(place);
        place != Place::Elsewhere
    });
    if suspects.threads.is_empty() {
        epoch::set_unsure(false);
    }
    worst
}

/// In the child of a fork there is one thread, and it is in fork().
pub(in crate::live) fn forget() {
    // SAFETY: No other thread runs.
    unsafe { SUSPECTS.seize() };
    // SAFETY: Held now.
    let left = unsafe { SUSPECTS.data() };
    // It may be half-way through a change: it is not dropped.
    core::mem::forget(core::mem::replace(left, Suspects::NONE));
    // SAFETY: Held since `seize`.
    unsafe { SUSPECTS.release() };
    epoch::set_unsure(false);
}

/// All threads but this one. None: they cannot be listed, or nothing is said of them.
fn threads() -> Option<Vec<Suspect>> {
    let own = own_id();
    let names = std::fs::read_dir("/proc/self/task").ok()?;
    let numbers = names.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let threads: Vec<i32> = numbers.collect();
    let shown = threads.contains(&own) && file_of(own, b"/syscall").is_some();
    let suspect = |thread: i32| Suspect {
        thread,
        spent: None,
        was_inside: false,
    };
    let others = threads.into_iter().filter(|thread| *thread != own);
    shown.then(|| others.map(suspect).collect())
}

impl Suspect {
    fn look(&mut self, own_code: &Range<usize>) -> Place {
        if self.thread == own_id() {
            return Place::Elsewhere;
        }
        let place = place_of(self.thread, own_code);
        if place != Place::Running {
            self.spent = None;
            self.was_inside = place == Place::Inside;
            return place;
        }
        let place = if self.was_inside {
            Place::Inside
        } else {
            place
        };
        let now = ticks_of(self.thread);
        match (self.spent, now) {
            (Some(then), Some(now)) if was_outside(then, now) => Place::Elsewhere,
            (Some(then), Some(now)) if now[1] == then[1] => place,
            _ => {
                self.spent = now;
                place
            }
        }
    }
}

/// Has a thread that runs left the kernel since? The kernel splits a thread's time in proportion to what it met at its ticks; one that
/// stayed inside would have had a part of these.
fn was_outside(then: [u64; 2], now: [u64; 2]) -> bool {
    const ENOUGH: u64 = 3;
    now[1] == then[1] && now[0] >= then[0] + ENOUGH
}

fn place_of(thread: i32, own_code: &Range<usize>) -> Place {
    let mut room = [0; 256];
    let file = file_of(thread, b"/syscall");
    let text = file.as_ref().map_or(&[][..], |file| file.read(&mut room));
    if text.is_empty() {
        // It is gone, or it is not said any more where it is.
        return if is_alive(thread) {
            Place::Running
        } else {
            Place::Elsewhere
        };
    }
    let Some(call) = parse_call(text) else {
        return if text.starts_with(b"running") {
            Place::Running
        } else {
            Place::Elsewhere
        };
    };
    if call.may_change() && !own_code.contains(&call.after) {
        Place::Inside
    } else {
        Place::Elsewhere
    }
}

/// The code of the library; nothing if it is not an object of its own.
fn own_code() -> Range<usize> {
    let objects = objects::loaded();
    let own = objects
        .iter()
        .find(|object| object.is_own() && !object.name.is_empty());
    own.and_then(|object| object.code.first().cloned())
        .unwrap_or_default()
}

/// A system call that a thread sleeps in.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    number: usize,
    arguments: [usize; 6],
    /// Where it goes on.
    after: usize,
}

/// `11 0x7f0000000000 0x1000 ...`: the number, six arguments, the stack, the place. None: in no system call.
fn parse_call(text: &[u8]) -> Option<Call> {
    let text = core::str::from_utf8(text).ok()?;
    let mut words = text.split_ascii_whitespace();
    let number = words.next()?.parse().ok()?;
    let mut next = || usize::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
    let mut arguments = [0; 6];
    for argument in &mut arguments {
        *argument = next()?;
    }
    let _stack = next()?;
    Some(Call {
        number,
        arguments,
        after: next()?,
    })
}

impl Call {
    /// May it change mappings?
    fn may_change(&self) -> bool {
        let has = |word: usize, flag: libc::c_int| self.arguments[word] & flag as usize != 0;
        match self.number as libc::c_long {
            libc::SYS_mmap => has(3, libc::MAP_FIXED),
            libc::SYS_clone => !has(0, libc::CLONE_VM),
            libc::SYS_ioctl => [UFFDIO_MOVE as u32, UFFDIO_WRITEPROTECT as u32]
                .contains(&(self.arguments[1] as u32)),
            _ => gate::is_known(self.number),
        }
    }
}

/// What a thread has spent outside and inside the kernel, in ticks.
fn ticks_of(thread: i32) -> Option<[u64; 2]> {
    /// Behind the name, which is in parentheses and may contain anything.
    const OUTSIDE: usize = 11;
    let mut room = [0; 512];
    let file = file_of(thread, b"/stat")?;
    let text = file.read(&mut room);
    let name_ends = text.iter().rposition(|byte| *byte == b')')?;
    let text = core::str::from_utf8(&text[name_ends + 1..]).ok()?;
    let mut words = text.split_ascii_whitespace().skip(OUTSIDE);
    let mut next = || words.next()?.parse().ok();
    Some([next()?, next()?])
}

/// A file of a thread.
fn file_of(thread: i32, name: &[u8]) -> Option<File> {
    Name::new(b"/proc/self/task/", thread.unsigned_abs(), name).open()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_understood() {
        let text = b"11 0x7f00000000 0x1000 0x0 0x0 0x0 0xffffffff 0x7ffc00 0x7f11\n";
        let munmap = Call {
            number: 11,
            arguments: [0x7f_0000_0000, 0x1000, 0, 0, 0, 0xffff_ffff],
            after: 0x7f11,
        };
        assert_eq!(parse_call(text), Some(munmap));
        assert_eq!(parse_call(b"running\n"), None);
        assert_eq!(parse_call(b"-1 0x7ffc00 0x7f11\n"), None);
        let may_change = |number: libc::c_long, flags: libc::c_int| {
            let arguments = [0, 0, 0, flags as usize, 0, 0];
            let number = number as usize;
            let call = Call {
                number,
                arguments,
                after: 0,
            };
            call.may_change()
        };
        assert!(may_change(libc::SYS_munmap, 0));
        assert!(may_change(libc::SYS_mmap, libc::MAP_FIXED));
        assert!(!may_change(libc::SYS_mmap, libc::MAP_PRIVATE));
        assert!(!may_change(libc::SYS_read, 0) && !may_change(libc::SYS_ioctl, 0));
    }

    #[test]
    fn a_thread_that_sleeps_is_elsewhere() {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        static END: AtomicU32 = AtomicU32::new(0);
        let thread = std::thread::spawn(|| {
            // ORDERING: SeqCst, all of them here: a test.
            NUMBER.store(own_id().unsigned_abs(), Ordering::SeqCst);
            while END.load(Ordering::SeqCst) == 0 {
                std::thread::park();
            }
        });
        while NUMBER.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        let number = NUMBER.load(Ordering::SeqCst) as i32;
        while place_of(number, &(0..0)) == Place::Running {
            std::thread::yield_now();
        }
        assert_eq!(place_of(number, &(0..0)), Place::Elsewhere);
        END.store(1, Ordering::SeqCst);
        thread.thread().unpark();
        thread.join().expect("no panic");
        assert_eq!(place_of(number, &(0..0)), Place::Elsewhere);
    }

    #[test]
    fn time_outside_the_kernel_is_seen() {
        let before = ticks_of(own_id()).expect("known");
        let mut now = before;
        while !was_outside(before, now) && now[1] < before[1] + 50 {
            now = ticks_of(own_id()).expect("known");
            (0..1_000_000).for_each(|number| {
                core::hint::black_box(number);
            });
        }
        assert!(now[0] >= before[0] + 3, "{before:?} {now:?}");
        assert!(
            !was_outside([5, 5], [9, 6])
                && !was_outside([5, 5], [7, 5])
                && was_outside([5, 5], [8, 5])
        );
    }
}
