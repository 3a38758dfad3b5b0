//! A record for each thread that has come by, in one dense array: whoever waits for a grace period scans it.
//!
//! A record belongs to the thread whose identifier it holds. Nothing tells when that thread ends: no destructor, which could
//! come too early for a section entered after it. Instead, a thread that needs a record looks for one whose owner is dead
//! before it takes a fresh one: a few, from a moving position, so that in the long run there are hardly more records than
//! there were threads at a time.
//!
//! Invariants
//! * Records at `HIGH` and above have never been used.
//! * A record is taken over only if its owner is dead and was in no section.
//!
//! The array is zeroed memory of the program's image: it costs nothing until it is used, and taking a record cannot fail for
//! lack of memory.

use core::ptr;

use super::Frame;
use crate::sync::{
    self, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence, words,
};

/// Threads at a time. Linux allows 32,768 unless it is told otherwise.
const THREADS: usize = if cfg!(loom) { 8 } else { 1 << 17 };
/// Records that are looked at before a fresh one is taken.
const PROBES: usize = if cfg!(loom) { 1 } else { 16 };
/// Address spaces on which one thread can have ranges in flight and find them again after fork.
const FLIGHTS: usize = if cfg!(loom) { 2 } else { 6 };

/// Kinds of read sections that are known by threads' records (`srcu::Srcu`).
const SECTIONS: usize = 4;
/// The kind of walks of a chain.
pub const WALKS: usize = 0;

/// The read section of one kind that a thread is in.
#[repr(C)]
#[derive(Debug)]
pub struct Section {
    /// 0, or the grace-period number that the outermost one began under.
    pub number: AtomicU64,
    /// Somebody waits for that section.
    pub awaited: AtomicU32,
    /// Sections inside of the outermost one, where they are counted. The thread's own.
    pub depth: AtomicU32,
}

impl Section {
    const fn new() -> Self {
        Self {
            number: AtomicU64::new(0),
            awaited: AtomicU32::new(0),
            depth: AtomicU32::new(0),
        }
    }
}

/// What is known of one thread. Two cache lines: neighbours that the hardware fetches in pairs are not another thread's.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct Record {
    /// What it is inside of, of each kind of read section.
    sections: [Section; SECTIONS],
    /// The owner's thread identifier, or 0.
    owner: AtomicI32,
    /// Its next system call that ends has to raise the epoch of `live`.
    pub owes_epoch: AtomicU32,
    /// The innermost frame.
    top: AtomicPtr<Frame>,
    flights: [AtomicU64; FLIGHTS],
}

const _: () = assert!(size_of::<Record>() == 128);

sync::global! {
    static RECORDS: [Record; THREADS] = [const { Record::new() }; THREADS];
    /// Records in use so far.
    static HIGH: AtomicUsize = AtomicUsize::new(0);
    /// Where to look next for a record whose owner is dead.
    static PROBE: AtomicUsize = AtomicUsize::new(0);
}

/// The calling thread's record, if it has one.
#[inline(always)]
pub fn own() -> Option<&'static Record> {
    let own = words::record().cast_const().cast::<Record>();
    // SAFETY: A record of the array, which `attach` noted; or NULL.
    unsafe { own.as_ref() }
}

fn set_own(record: &'static Record) {
    words::set_record(ptr::from_ref(record).cast_mut().cast());
}

/// The calling thread's record.
#[inline(always)]
pub(super) fn current() -> &'static Record {
    own().unwrap_or_else(attach)
}

/// Every record that may belong to a thread.
#[inline]
pub fn attached() -> &'static [Record] {
    // ORDERING: Acquire pairs with the SeqCst increment in `take`.
    &RECORDS[..HIGH.load(Ordering::Acquire).min(THREADS)]
}

/// May any thread but the calling one have a record? If not, one that comes later sees all that was stored before this call,
/// provided a `fence(SeqCst)` stands between: it fences after it has raised `HIGH`.
pub fn others_may_be_attached() -> bool {
    match attached() {
        [] => false,
        [only] => !own().is_some_and(|own| ptr::eq(own, only)),
        _ => true,
    }
}

/// In a model: the threads numbered up to `threads` have had their records for long. The caller is number 1.
#[cfg(loom)]
pub fn seat(threads: usize) {
    for (owner, record) in (1..).zip(&RECORDS[..threads]) {
        record.owner.store(owner, Ordering::Relaxed);
    }
    HIGH.store(threads, Ordering::Relaxed);
}

#[cfg(loom)]
fn seat_of(thread: i32) -> Option<&'static Record> {
    let mut seats = attached().iter();
    seats.find(|record| record.owner.load(Ordering::Relaxed) == thread)
}

#[cold]
fn attach() -> &'static Record {
    #[cfg(loom)]
    if let Some(seat) = seat_of(sync::own_id()) {
        set_own(seat);
        return seat;
    }
    let owner = sync::own_id();
    let record = inherit(owner).unwrap_or_else(|| take(owner));
    set_own(record);
    // The partner of the fence of whoever saw no other record; and light fences work from now on.
    fence::prepare();
    record
}

/// Takes over the record of a thread that is dead.
fn inherit(owner: i32) -> Option<&'static Record> {
    let known = attached();
    (0..PROBES.min(known.len())).find_map(|_| {
        // ORDERING: Relaxed: a position to start from.
        let record = &known[PROBE.fetch_add(1, Ordering::Relaxed) % known.len()];
        record.try_inherit(owner).then_some(record)
    })
}

/// Takes a fresh record.
fn take(owner: i32) -> &'static Record {
    // ORDERING: SeqCst: with the fence in `attach`, the partner of the load in `others_may_be_attached`.
    let index = HIGH.fetch_add(1, Ordering::SeqCst);
    assert!(index < THREADS, "more than {THREADS} threads at a time");
    // ORDERING: Release pairs with the Acquire in `try_inherit`.
    RECORDS[index].owner.store(owner, Ordering::Release);
    &RECORDS[index]
}

/// Where machine code finds the parts of a record.
pub mod offsets {
    use super::{Record, Section};
    use core::mem::offset_of;

    /// The innermost frame.
    pub const TOP: usize = offset_of!(Record, top);

    /// The number of the section of this kind.
    pub const fn number(kind: usize) -> usize {
        offset_of!(Record, sections) + kind * size_of::<Section>() + offset_of!(Section, number)
    }

    /// Whether that section is awaited.
    pub const fn awaited(kind: usize) -> usize {
        offset_of!(Record, sections) + kind * size_of::<Section>() + offset_of!(Section, awaited)
    }
}

impl Record {
    const fn new() -> Self {
        Self {
            sections: [const { Section::new() }; SECTIONS],
            owner: AtomicI32::new(0),
            owes_epoch: AtomicU32::new(0),
            top: AtomicPtr::new(ptr::null_mut()),
            flights: [const { AtomicU64::new(0) }; FLIGHTS],
        }
    }

    /// The read section of this kind.
    #[inline(always)]
    pub fn section(&self, kind: usize) -> &Section {
        &self.sections[kind]
    }

    /// The innermost frame, or NULL.
    #[inline]
    pub(super) fn top(&self) -> *const Frame {
        // ORDERING: Relaxed: the owner's alone.
        self.top.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn set_top(&self, frame: *const Frame) {
        // ORDERING: Relaxed: the owner's alone.
        self.top.store(frame.cast_mut(), Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn flights(&self) -> &[AtomicU64; FLIGHTS] {
        &self.flights
    }

    /// Makes `heir` the owner if the present one is dead and left no section open.
    fn try_inherit(&self, heir: i32) -> bool {
        // ORDERING: Acquire pairs with the Release in `take`, and with the exchange below.
        let owner = self.owner.load(Ordering::Acquire);
        let closed = || {
            let mut sections = self.sections.iter();
            // ORDERING: Relaxed: if the owner is dead, nobody changes it.
            sections.all(|section| section.number.load(Ordering::Relaxed) == 0)
        };
        // A record with the heir's own identifier is a dead thread's, too, which had the same one.
        let dead = owner != 0 && (owner == heir || !sync::is_alive(owner)) && closed();
        // ORDERING: AcqRel pairs with itself, in whoever had it before.
        let exchange = || {
            self.owner
                .compare_exchange(owner, heir, Ordering::AcqRel, Ordering::Relaxed)
        };
        let inherited = dead && exchange().is_ok();
        if inherited {
            self.clear();
        }
        inherited
    }

    /// Forgets what the thread was in the middle of.
    fn clear(&self) {
        self.set_top(ptr::null());
        for flight in &self.flights {
            // ORDERING: Relaxed: the owner's alone.
            flight.store(0, Ordering::Relaxed);
        }
        for section in &self.sections {
            // ORDERING: Relaxed: the owner's alone.
            section.depth.store(0, Ordering::Relaxed);
            // ORDERING: Relaxed: a hint that costs its owner a look.
            section.awaited.store(0, Ordering::Relaxed);
        }
    }
}

/// Closes sections of this kind that threads had open when they ended. One thread at a time may do that for a kind: nobody takes over
/// a record with an open section, so who finds one of a dead thread has it for itself.
pub fn close_sections_of_the_dead(kind: usize) {
    for record in attached() {
        // ORDERING: Acquire pairs with the Release in `take`, and with the exchange in `try_inherit`.
        let owner = record.owner.load(Ordering::Acquire);
        let section = record.section(kind);
        // ORDERING: Relaxed: asked again below.
        if owner == 0 || section.number.load(Ordering::Relaxed) == 0 || sync::is_alive(owner) {
            continue;
        }
        // ORDERING: Acquire pairs with the Release of an heir: if there is one, the owner is not the same any more.
        let open = section.number.load(Ordering::Acquire) != 0;
        // ORDERING: Relaxed: as above.
        if open && record.owner.load(Ordering::Relaxed) == owner {
            // ORDERING: Release, as when a section is left.
            section.number.store(0, Ordering::Release);
        }
    }
}

/// After fork, in the child: of all threads only the calling one exists.
// SPEC: DV-13
pub fn after_fork_in_child() {
    let own = own();
    for record in attached() {
        if own.is_some_and(|own| ptr::eq(own, record)) {
            // ORDERING: Relaxed: the child has one thread.
            record.owner.store(sync::own_id(), Ordering::Relaxed);
        } else {
            record.clear();
            for section in &record.sections {
                // ORDERING: Relaxed: as above.
                section.number.store(0, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_dead_threads_are_used_again() {
        let run = || {
            std::thread::spawn(|| ptr::from_ref(current()).addr())
                .join()
                .expect("no panic")
        };
        let mut seen: Vec<usize> = (0..2_000).map(|_| run()).collect();
        seen.sort_unstable();
        seen.dedup();
        assert!(seen.len() < 200, "{} records for 2000 threads", seen.len());
    }

    #[test]
    fn threads_that_live_have_records_of_their_own() {
        static HERE: AtomicUsize = AtomicUsize::new(0);
        let threads: Vec<_> = (0..8)
            .map(|_| {
                std::thread::spawn(|| {
                    let own = ptr::from_ref(current()).addr();
                    HERE.fetch_add(1, Ordering::Relaxed);
                    while HERE.load(Ordering::Relaxed) < 8 {
                        std::thread::yield_now();
                    }
                    assert_eq!(own, ptr::from_ref(current()).addr());
                    own
                })
            })
            .collect();
        let mut seen: Vec<usize> = threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 8);
    }
}
