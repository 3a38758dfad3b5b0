//! The explorer: what it runs, what it finds, and that right drivers pass.
#![expect(unsafe_code, reason = "a driver upon the core's functions")]

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use core::cell::UnsafeCell;
use core::ffi::c_ulong;
use core::mem::MaybeUninit;
use core::ptr;

use ::mmu_notifier::abi::mm::mm_struct;
use ::mmu_notifier::abi::notifier::{
    mmu_interval_notifier, mmu_interval_notifier_ops, mmu_notifier_event, mmu_notifier_range,
};
use ::mmu_notifier::dispatch::REFERENCE;
use ::mmu_notifier::explore::{
    self, Exploration, Kind, Lock, Options, Run, Scenario, Session, StartError, Violation, explore,
    run,
};
use ::mmu_notifier::mm;
use ::mmu_notifier::sync::Ordering::SeqCst;
use ::mmu_notifier::sync::{Arc, AtomicBool, AtomicU32, AtomicU64, point::point};

/// There is one session in a process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is wrong with the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    SetSeqMissing,
    SetSeqUnlocked,
    RetryIgnored,
    RetryOutsideLock,
    NoReadSection,
    RemoveInCallback,
    SleepsNonBlockable,
    EndMissing,
}

const PAGE: c_ulong = 0x1000;
/// The page as it is at first, and after the change.
const OLD: u64 = 1;
const NEW: u64 = 2;

/// A device with one entry, which mirrors the page at `PAGE`.
#[repr(C)]
struct Mirror {
    sub: UnsafeCell<mmu_interval_notifier>,
    mm: *mut mm_struct,
    lock: Lock,
    page: AtomicU64,
    device: AtomicU64,
    /// Between the start and the end of a range.
    changing: AtomicBool,
    /// What went wrong in a callback.
    told: Mutex<Option<String>>,
    bug: Bug,
}

// SAFETY: The mm and the notifier are for any thread to use; the rest is atomic.
unsafe impl Send for Mirror {}
// SAFETY: As above.
unsafe impl Sync for Mirror {}

static OPS: mmu_interval_notifier_ops = mmu_interval_notifier_ops {
    invalidate: Some(invalidate),
};

unsafe extern "C" fn invalidate(
    sub: *mut mmu_interval_notifier,
    range: *const mmu_notifier_range,
    seq: c_ulong,
) -> bool {
    // SAFETY: The notifier is the first field of a mirror that outlives its subscription.
    let mirror = unsafe { &*sub.cast::<Mirror>() };
    // SAFETY: The caller's range.
    let blockable = unsafe { (*range).flags } & 1 != 0;
    if blockable || mirror.bug == Bug::SleepsNonBlockable {
        if mirror.lock.acquire().is_err() {
            return true;
        }
    } else if !mirror.lock.try_acquire() {
        return false;
    }
    if !matches!(mirror.bug, Bug::SetSeqMissing | Bug::SetSeqUnlocked) {
        mirror.set_seq(seq);
    }
    mirror.device.store(0, SeqCst);
    mirror.lock.release();
    if mirror.bug == Bug::SetSeqUnlocked {
        mirror.set_seq(seq);
    }
    if mirror.bug == Bug::RemoveInCallback {
        *mirror.told.lock().expect("no panic") = mirror.remove().err();
    }
    true
}

impl Mirror {
    fn new(bug: Bug) -> Arc<Self> {
        let mirror = Arc::new(Self {
            // SAFETY: `insert` reads nothing of it (DV-9).
            sub: UnsafeCell::new(unsafe { MaybeUninit::zeroed().assume_init() }),
            mm: mm::mm_alloc(),
            lock: Lock::new("driver"),
            page: AtomicU64::new(OLD),
            device: AtomicU64::new(0),
            changing: AtomicBool::new(false),
            told: Mutex::new(None),
            bug,
        });
        let request = mm::Request {
            interval_sub: mirror.sub.get(),
            mm: mirror.mm,
            start: PAGE,
            length: PAGE,
            ops: &raw const OPS,
            abi: REFERENCE,
        };
        // SAFETY: All of it lives until `close`.
        unsafe { mm::insert(&request) }.expect("a fresh mm");
        mirror
    }

    fn at(&self, kind: Kind) {
        point(kind, self.sub.get().cast());
    }

    fn set_seq(&self, seq: c_ulong) {
        self.at(Kind::MMU_NOTIFIER_EXPLORE_SET_SEQ);
        // SAFETY: One thread runs at a time.
        unsafe { (*self.sub.get()).invalidate_seq = seq };
    }

    fn read_retry(&self, seq: c_ulong) -> bool {
        self.at(Kind::MMU_NOTIFIER_EXPLORE_READ_RETRY);
        // SAFETY: As above.
        unsafe { (*self.sub.get()).invalidate_seq != seq }
    }

    fn remove(&self) -> Result<(), String> {
        self.at(Kind::MMU_NOTIFIER_EXPLORE_REMOVE);
        // SAFETY: It was inserted.
        unsafe { mm::remove(self.sub.get()) }.map_err(|error| error.to_string())
    }

    fn fault(&self) -> Result<(), String> {
        loop {
            let seq = self.read_begin()?;
            let page = self.page.load(SeqCst);
            explore::point();
            if self.bug == Bug::RetryOutsideLock && self.read_retry(seq) {
                continue;
            }
            self.lock.acquire().map_err(|error| error.to_string())?;
            let checks = matches!(
                self.bug,
                Bug::RetryIgnored | Bug::RetryOutsideLock | Bug::NoReadSection
            );
            let stale = !checks && self.read_retry(seq);
            if !stale {
                self.device.store(page, SeqCst);
            }
            self.lock.release();
            if !stale {
                return Ok(());
            }
        }
    }

    fn read_begin(&self) -> Result<c_ulong, String> {
        if self.bug == Bug::NoReadSection {
            return Ok(0);
        }
        self.at(Kind::MMU_NOTIFIER_EXPLORE_READ_BEGIN);
        // SAFETY: It was inserted.
        unsafe { mm::read_begin(self.sub.get()) }.map_err(|error| error.to_string())
    }

    /// The page is replaced.
    fn change(&self, blockable: bool) -> Result<(), String> {
        let mm = self.mm.cast_const().cast();
        let mut range = mmu_notifier_range {
            mm: self.mm,
            start: PAGE,
            end: 2 * PAGE,
            flags: u32::from(blockable),
            event: mmu_notifier_event::MMU_NOTIFY_CLEAR.into(),
            owner: ptr::null_mut(),
        };
        self.changing.store(true, SeqCst);
        let (start, done) = if blockable {
            (Kind::MMU_NOTIFIER_EXPLORE_START, None)
        } else {
            let done = Kind::MMU_NOTIFIER_EXPLORE_NONBLOCK_DONE;
            (Kind::MMU_NOTIFIER_EXPLORE_START_NONBLOCK, Some(done))
        };
        point(start, mm);
        // SAFETY: The range and its mm are valid, and nobody registers meanwhile (DV-2).
        let started = unsafe { mm::invalidate_range_start(&raw mut range) };
        let refused = matches!(&started, Err(error) if error.errno() == libc::EAGAIN);
        if let Some(done) = done {
            point(done, if started.is_ok() { mm } else { ptr::null() });
        }
        if refused {
            self.changing.store(false, SeqCst);
            return Ok(());
        }
        started.map_err(|error| error.to_string())?;
        self.page.store(NEW, SeqCst);
        if self.bug == Bug::EndMissing {
            return Ok(());
        }
        point(Kind::MMU_NOTIFIER_EXPLORE_END, mm);
        // SAFETY: As above.
        unsafe { mm::invalidate_range_end(&raw mut range, false) }
            .map_err(|error| error.to_string())?;
        self.changing.store(false, SeqCst);
        self.told
            .lock()
            .expect("no panic")
            .take()
            .map_or(Ok(()), Err)
    }

    /// Outside of a change, the device has the page as it is, or nothing.
    fn check(&self) -> Result<(), String> {
        let (device, page) = (self.device.load(SeqCst), self.page.load(SeqCst));
        if self.changing.load(SeqCst) || device == 0 || device == page {
            return Ok(());
        }
        Err(format!("the device has page {device}, which is {page} now"))
    }

    fn state(&self) -> u64 {
        // SAFETY: Nobody runs.
        let seq = unsafe { (*self.sub.get()).invalidate_seq };
        let changing = u64::from(self.changing.load(SeqCst));
        seq << 8 | self.page.load(SeqCst) << 4 | self.device.load(SeqCst) << 1 | changing
    }

    fn close(&self) {
        self.remove().expect("inserted");
        // SAFETY: The user that `new` has made.
        unsafe { mm::mmput(self.mm) }.expect("alive");
    }
}

/// A fault and a change of the page, at the same time.
fn scenario(bug: Bug) -> impl FnMut(&mut Scenario) -> Result<(), String> {
    move |scenario| {
        let mirror = Mirror::new(bug);
        let (a, b, c) = (
            Arc::clone(&mirror),
            Arc::clone(&mirror),
            Arc::clone(&mirror),
        );
        let blockable = bug != Bug::SleepsNonBlockable;
        scenario.thread("fault", move || a.fault());
        scenario.thread("change", move || b.change(blockable));
        scenario.invariant(move || c.check());
        scenario.finally(move || mirror.close());
        Ok(())
    }
}

fn search(bug: Bug, options: &Options) -> Exploration {
    explore(scenario(bug), options).expect("no other session runs")
}

fn found(bug: Bug) -> Run {
    let result = search(bug, &Options::default());
    let run = result
        .violation
        .unwrap_or_else(|| panic!("{bug:?} was not found"));
    assert!(!result.exhaustive);
    println!("{bug:?}: {} schedules\n{run}", result.schedules);
    run
}

/// The run can be repeated from its schedule, to the last event.
fn repeats(bug: Bug, first: &Run) {
    let again = run(scenario(bug), &first.schedule, &Options::default()).expect("no other session");
    assert_eq!(again, *first);
}

#[test]
fn a_session_begins_with_the_worker_at_rest() {
    let _alone = alone();
    for _ in 0..50_000 {
        let session = Session::begin(Options::default()).expect("no other session");
        assert_eq!(session.runnable(), [], "nothing is owed to the worker");
        session.finish();
    }
}

#[test]
fn the_right_driver_passes_every_schedule() {
    let _alone = alone();
    for preemptions in [Some(2), Some(3), None] {
        let options = Options {
            preemptions,
            ..Options::default()
        };
        let result = search(Bug::None, &options);
        assert!(
            result.violation.is_none(),
            "{}",
            result.violation.expect("some")
        );
        assert!(result.exhaustive);
        assert_eq!(result.unbounded, preemptions.is_none());
        let speed = result.states as f64 / result.took.as_secs_f64();
        println!(
            "preemptions {preemptions:?}: {} schedules, {} states, {speed:.0} states/s",
            result.schedules, result.states
        );
        assert!(result.schedules > 20);
    }
}

#[test]
fn a_device_that_keeps_a_stale_page_is_found() {
    let _alone = alone();
    for bug in [
        Bug::SetSeqMissing,
        Bug::SetSeqUnlocked,
        Bug::RetryIgnored,
        Bug::RetryOutsideLock,
        Bug::NoReadSection,
    ] {
        let run = found(bug);
        let Some(Violation::Invariant(message)) = &run.violation else {
            panic!("{bug:?}: {:?}", run.violation);
        };
        assert_eq!(message, "the device has page 1, which is 2 now");
        repeats(bug, &run);
    }
}

#[test]
fn a_range_that_is_not_ended_is_found() {
    let _alone = alone();
    let run = found(Bug::EndMissing);
    assert_eq!(run.preemptions, 0);
    let text = run.violation.as_ref().expect("found").to_string();
    assert!(text.contains("change") && text.contains("ended"), "{text}");
    let alone = |scenario: &mut Scenario| {
        let mirror = Mirror::new(Bug::EndMissing);
        scenario.thread("change", move || mirror.change(true));
        Ok(())
    };
    let run = explore::run(alone, &[], &Options::default()).expect("no other session");
    assert!(matches!(run.violation, Some(Violation::Unended { .. })));
}

#[test]
fn a_lock_that_sleeps_in_a_range_that_is_not_blockable_is_found() {
    let _alone = alone();
    let run = found(Bug::SleepsNonBlockable);
    let violation = run.violation.as_ref().expect("found");
    assert!(matches!(violation, Violation::NonBlockable { thread, .. } if thread == "change"));
    let right = |scenario: &mut Scenario| {
        let mirror = Mirror::new(Bug::None);
        let (a, b, c) = (
            Arc::clone(&mirror),
            Arc::clone(&mirror),
            Arc::clone(&mirror),
        );
        scenario.thread("fault", move || a.fault());
        scenario.thread("change", move || b.change(false));
        scenario.invariant(move || c.check());
        scenario.finally(move || mirror.close());
        Ok(())
    };
    let result = explore(right, &Options::default()).expect("no other session");
    assert!(
        result.violation.is_none(),
        "{}",
        result.violation.expect("some")
    );
    assert!(result.exhaustive);
}

#[test]
fn a_state_function_prunes_and_finds_the_same() {
    let _alone = alone();
    let with_state = |bug| {
        move |scenario: &mut Scenario| {
            let mirror = Mirror::new(bug);
            let (a, b, c, d) = (
                Arc::clone(&mirror),
                Arc::clone(&mirror),
                Arc::clone(&mirror),
                Arc::clone(&mirror),
            );
            scenario.thread("fault", move || a.fault());
            scenario.thread("change", move || b.change(true));
            scenario.invariant(move || c.check());
            scenario.state(move || d.state());
            scenario.finally(move || mirror.close());
            Ok(())
        }
    };
    let options = Options {
        preemptions: None,
        ..Options::default()
    };
    let all = search(Bug::None, &options);
    let pruned = explore(with_state(Bug::None), &options).expect("no other session");
    assert!(pruned.exhaustive && pruned.violation.is_none());
    assert!(pruned.pruned > 0 && pruned.schedules < all.schedules);
    let result = explore(with_state(Bug::SetSeqUnlocked), &Options::default());
    assert!(result.expect("no other session").violation.is_some());
}

/// A remove under the lock that the callback wants waits for the range to end (D15 of SPEC 6.3).
#[test]
fn a_deadlock_says_who_waits_for_whom() {
    let _alone = alone();
    let setup = |scenario: &mut Scenario| {
        let mirror = Mirror::new(Bug::None);
        let (a, b) = (Arc::clone(&mirror), Arc::clone(&mirror));
        scenario.thread("remove", move || a.lock.with(|| a.remove()));
        scenario.thread("change", move || b.change(true));
        // SAFETY: The user that `new` has made.
        scenario.finally(move || unsafe { mm::mmput(mirror.mm) }.expect("alive"));
        Ok(())
    };
    let result = explore(setup, &Options::default()).expect("no other session");
    let run = result.violation.expect("found");
    println!("{run}");
    let Some(Violation::Deadlock(waits)) = &run.violation else {
        panic!("{:?}", run.violation);
    };
    assert_eq!(
        *waits,
        [
            "remove waits for the end of a busy period, in remove",
            "change waits for driver, held by remove",
            "change has not ended 1 range(s)",
        ]
    );
    assert!(
        !run.leaked,
        "the wait for the lock is given up, and all end"
    );
}

#[test]
fn failures_and_panics_are_violations() {
    let _alone = alone();
    let fails = |scenario: &mut Scenario| {
        scenario.thread("a", || Err("no".to_owned()));
        Ok(())
    };
    let result = run(fails, &[], &Options::default()).expect("no other session");
    assert_eq!(result.violation.expect("one").to_string(), "a failed: no");
    let panics = |scenario: &mut Scenario| {
        scenario.thread("a", || panic!("oh {}", "no"));
        Ok(())
    };
    let result = run(panics, &[], &Options::default()).expect("no other session");
    assert_eq!(
        result.violation.expect("one").to_string(),
        "a failed: oh no"
    );
}

#[test]
fn a_step_that_does_not_come_back_is_blocked_outside() {
    let _alone = alone();
    let setup = |scenario: &mut Scenario| {
        scenario.thread("a", || {
            loop {
                std::thread::park();
            }
        });
        Ok(())
    };
    let options = Options {
        patience: Duration::from_secs(1),
        ..Options::default()
    };
    let result = run(setup, &[], &options).expect("no other session");
    assert!(matches!(result.violation, Some(Violation::Outside { .. })));
    assert!(result.leaked);
}

#[test]
fn a_thread_that_spins_lets_others_go_on() {
    let _alone = alone();
    let setup = |scenario: &mut Scenario| {
        let flag = Arc::new(AtomicBool::new(false));
        let other = Arc::clone(&flag);
        scenario.thread("waits", move || {
            while !other.load(SeqCst) {
                explore::yield_now();
            }
            Ok(())
        });
        scenario.thread("sets", move || {
            flag.store(true, SeqCst);
            Ok(())
        });
        Ok(())
    };
    let result = run(setup, &[], &Options::default()).expect("no other session");
    assert_eq!(result.violation, None);
    let never = |scenario: &mut Scenario| {
        scenario.thread("waits", || {
            loop {
                explore::yield_now();
            }
        });
        Ok(())
    };
    let options = Options {
        max_steps: 100,
        ..Options::default()
    };
    let result = run(never, &[], &options).expect("no other session");
    assert_eq!(result.violation, Some(Violation::TooLong(100)));
}

/// The same loss is found with none of the schedules run twice, and no interleaving left out.
#[test]
fn every_interleaving_is_run_once() {
    let _alone = alone();
    let count = Arc::new(AtomicU32::new(0));
    let setup = |scenario: &mut Scenario| {
        for name in ["a", "b"] {
            scenario.thread(name, || {
                explore::point();
                explore::point();
                Ok(())
            });
        }
        let count = Arc::clone(&count);
        scenario.at_end(move || {
            count.fetch_add(1, SeqCst);
            Ok(())
        });
        Ok(())
    };
    let options = Options {
        preemptions: None,
        ..Options::default()
    };
    let result = explore(setup, &options).expect("no other session");
    // Two threads of three steps each: 6! / (3! 3!).
    assert_eq!(result.schedules, 20);
    assert_eq!(count.load(SeqCst), 20);
    assert!(result.exhaustive && result.unbounded);
    let bounded = Options {
        preemptions: Some(1),
        ..Options::default()
    };
    // 2 without a preemption; with one, either thread first, interrupted after 1 or 2 steps.
    assert_eq!(explore(setup, &bounded).expect("no other").schedules, 6);
}

#[test]
fn sessions_are_stepped_by_hand() {
    let _alone = alone();
    let mut session = Session::begin(Options::default()).expect("no other session");
    assert_eq!(
        Session::begin(Options::default()).err(),
        Some(StartError::Busy)
    );
    let lock = Arc::new(Lock::new("l"));
    let (one, two) = (Arc::clone(&lock), lock);
    let body = |lock: Arc<Lock>| {
        move || {
            lock.with(|| {
                explore::point();
                Ok(())
            })
        }
    };
    let a = session.spawn("a", body(one)).expect("room for a thread");
    let b = session.spawn("b", body(two)).expect("room for a thread");
    for thread in [a, a, b] {
        session.step(thread).expect("runnable");
    }
    assert_eq!(session.describe(b), "waits for l, held by a");
    assert!(session.step(b).is_err());
    session.step(a).expect("runnable");
    assert_eq!(session.describe(b), "ready: lock l");
    for thread in [a, b, b, b] {
        session.step(thread).expect("runnable");
    }
    assert_eq!(session.describe(a), "over");
    assert!(session.is_over());
    assert_eq!(session.finish().violation, None);
}

/// remove() in a callback of its own range waits for itself: DV-7, an error on the Rust face.
#[test]
fn dv_7_a_remove_in_a_callback_is_found() {
    let _alone = alone();
    let run = found(Bug::RemoveInCallback);
    assert_eq!(run.preemptions, 0);
    let Some(Violation::Failed { thread, message }) = &run.violation else {
        panic!("{:?}", run.violation);
    };
    assert_eq!(thread, "change");
    assert!(
        message.starts_with("[DV-7] mmu_interval_notifier_remove"),
        "{message}"
    );
    repeats(Bug::RemoveInCallback, &run);
}
