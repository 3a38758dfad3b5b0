//! The face for Rust programs: what its examples do not show.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use mmu_notifier::api::{
    AddressSpace, Change, Error, Event, Factory, Interval, IntervalNotifier, IntervalSubscription,
    Invalidation, Mm, Notifier, Ops, Range, Refusal, Refused, Subscription, synchronize,
};

const PAGE: Change = Change::new(0x1000..0x2000, Event::CLEAR);

type Log = Arc<Mutex<Vec<String>>>;

fn taken(log: &Log) -> Vec<String> {
    std::mem::take(&mut log.lock().unwrap())
}

/// Notes every call; says how often it was dropped.
struct Recorder {
    name: &'static str,
    log: Log,
    refuses: bool,
}

impl Recorder {
    fn new(name: &'static str, log: &Log) -> Self {
        let log = Arc::clone(log);
        Self {
            name,
            log,
            refuses: false,
        }
    }

    fn note(&self, what: &str) {
        self.log
            .lock()
            .unwrap()
            .push(format!("{what} {}", self.name));
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.note("drop");
    }
}

impl Notifier for Recorder {
    const OPS: Ops = Ops::RELEASE
        .and(Ops::CLEAR_FLUSH_YOUNG)
        .and(Ops::CLEAR_YOUNG)
        .and(Ops::TEST_YOUNG)
        .and(Ops::CHANGE_PTE)
        .and(Ops::INVALIDATE_RANGE_START)
        .and(Ops::INVALIDATE_RANGE_END);
    fn release(&self, _: &AddressSpace) {
        self.note("release");
    }
    fn clear_flush_young(&self, _: &AddressSpace, start: u64, end: u64) -> i32 {
        self.note(&format!("clear_flush_young {start:#x} {end:#x}"));
        1
    }
    fn clear_young(&self, _: &AddressSpace, _: u64, _: u64) -> i32 {
        self.note("clear_young");
        2
    }
    fn test_young(&self, _: &AddressSpace, _: u64) -> i32 {
        self.note("test_young");
        i32::from(self.name == "b")
    }
    fn change_pte(&self, _: &AddressSpace, address: u64, pte: u64) {
        self.note(&format!("change_pte {address:#x} {pte:#x}"));
    }
    fn invalidate_range_start(&self, range: &Range<'_>) -> Result<(), Refusal> {
        self.note(&format!("start {range:?} {}", range.is_blockable()));
        if self.refuses && !range.is_blockable() {
            return Err(Refusal::AGAIN);
        }
        Ok(())
    }
    fn invalidate_range_end(&self, _: &Range<'_>) {
        self.note("end");
    }
    fn arch_invalidate_secondary_tlbs(&self, _: &AddressSpace, _: u64, _: u64) {
        self.note("secondary");
    }
}

#[test]
fn hs_3_newest_first_and_each_op_reaches_its_method() {
    let log = Log::default();
    let mm = Mm::new().unwrap();
    let a = mm.register(Recorder::new("a", &log)).unwrap();
    let b = mm.register(Recorder::new("b", &log)).unwrap();
    mm.invalidate_range_start(PAGE).unwrap().end();
    let start = "start CLEAR [0x1000, 0x2000) true";
    let expected = [
        format!("{start} b"),
        format!("{start} a"),
        "end b".into(),
        "end a".into(),
    ];
    assert_eq!(taken(&log), expected);
    assert_eq!(mm.clear_flush_young(0x1000, 0x2000).unwrap(), 1);
    assert_eq!(mm.clear_young(0x1000, 0x2000).unwrap(), 2);
    assert_eq!(
        mm.test_young(0x1000).unwrap(),
        1,
        "b answers, a is not asked"
    );
    mm.change_pte(0x1000, 0x25).unwrap();
    mm.arch_invalidate_secondary_tlbs(0, 1).unwrap();
    let young = ["clear_flush_young 0x1000 0x2000", "clear_young"].map(|op| [op, op]);
    let mut expected: Vec<_> = young
        .as_flattened()
        .iter()
        .zip(["b", "a", "b", "a"])
        .map(|(op, name)| format!("{op} {name}"))
        .collect();
    expected.extend(
        [
            "test_young b",
            "change_pte 0x1000 0x25 b",
            "change_pte 0x1000 0x25 a",
        ]
        .map(String::from),
    );
    assert_eq!(
        taken(&log),
        expected,
        "no secondary: the op is not in the list"
    );
    drop(b);
    drop(a);
    assert_eq!(taken(&log), ["release b", "drop b", "release a", "drop a"]);
}

#[test]
fn rl_2_the_last_user_releases_and_the_subscription_survives() {
    let log = Log::default();
    let mm = Mm::new().unwrap();
    let second = mm.clone();
    let subscription = mm.register(Recorder::new("a", &log)).unwrap();
    mm.close().unwrap();
    assert!(taken(&log).is_empty());
    let reference = second.grab();
    drop(second);
    assert_eq!(taken(&log), ["release a"]);
    assert_eq!((reference.users(), reference.references()), (0, 2));
    drop(subscription.unregister());
    assert_eq!(taken(&log), ["drop a"]);
    assert_eq!(reference.references(), 1);
}

#[test]
fn hs_8_a_refused_range_owes_no_end() {
    let log = Log::default();
    let mm = Mm::new().unwrap();
    let mut refusing = Recorder::new("a", &log);
    refusing.refuses = true;
    let _a = mm
        .register_with(Ops::INVALIDATE_RANGE_START, refusing)
        .unwrap();
    let refused = mm.invalidate_range_start_nonblock(PAGE).unwrap_err();
    assert_eq!((refused, refused.errno()), (Error::Errno(11), 11));
    assert_eq!(taken(&log), ["start CLEAR [0x1000, 0x2000) false a"]);
}

/// Keeps the last `cur_seq`.
#[derive(Default)]
struct Seq(AtomicUsize);
impl IntervalNotifier for Seq {
    fn invalidate(&self, interval: &Interval, _: &Range<'_>, cur_seq: u64) -> bool {
        interval.set_seq(cur_seq);
        self.0.store(cur_seq as usize, SeqCst);
        true
    }
}

#[test]
fn golden_5_interval_numbers() {
    let mm = Mm::new().unwrap();
    let a = mm.insert(0x1000, 0x1000, Seq::default()).unwrap();
    assert_eq!((a.seq(), mm.seq_and_active()), (1, (2, 0)));
    let section = a.read_begin().unwrap();
    assert_eq!(section.seq(), 1);
    let range = mm.invalidate_range_start(PAGE).unwrap();
    assert_eq!(a.notifier().0.load(SeqCst), 3);
    assert_eq!(mm.seq_and_active(), (3, 1));
    assert!(section.check_retry());
    assert!(section.read_retry());
    // Deferred, and in the tree after the last end.
    let b = mm.insert(0x1000, 0x1000, Seq::default()).unwrap();
    assert_eq!(b.seq(), 3);
    range.end();
    assert_eq!(mm.seq_and_active(), (4, 0));
    assert_eq!(b.read_begin().unwrap().seq(), 3);
    assert_eq!((b.start(), b.last()), (0x1000, 0x1fff));
    assert_eq!(b.mm().id(), mm.id());
    b.remove().unwrap();
    drop(a);
    assert_eq!((mm.users(), mm.references()), (1, 1));
}

#[test]
fn rb_3_read_begin_and_remove_wait_for_the_end() {
    let mm = Mm::new().unwrap();
    let a = mm.insert(0x1000, 0x1000, Seq::default()).unwrap();
    let range = Invalidation::start(mm.grab(), PAGE).unwrap();
    let ended = AtomicBool::new(false);
    thread::scope(|s| {
        let (a, ended) = (&a, &ended);
        let (told, tell) = mpsc::channel();
        s.spawn(move || {
            told.send(()).unwrap();
            assert_eq!(a.read_begin().unwrap().seq(), 3);
            assert!(ended.load(SeqCst));
        });
        tell.recv().unwrap();
        thread::sleep(Duration::from_millis(20));
        ended.store(true, SeqCst);
        range.end();
    });
}

/// Does something inside its callback, once.
struct Within<F>(Mutex<Option<F>>);
impl<F> Within<F> {
    fn new(act: F) -> Self {
        Self(Mutex::new(Some(act)))
    }
}
impl<F: FnOnce() + Send + 'static> IntervalNotifier for Within<F> {
    fn invalidate(&self, interval: &Interval, _: &Range<'_>, cur_seq: u64) -> bool {
        interval.set_seq(cur_seq);
        let act = self.0.lock().unwrap().take();
        if let Some(act) = act {
            act();
        }
        true
    }
}
impl<F: FnOnce() + Send + 'static> Notifier for Within<F> {
    const OPS: Ops = Ops::INVALIDATE_RANGE_START;
    fn invalidate_range_start(&self, _: &Range<'_>) -> Result<(), Refusal> {
        let act = self.0.lock().unwrap().take();
        if let Some(act) = act {
            act();
        }
        Ok(())
    }
}

#[test]
fn dv_7_waits_for_oneself_are_errors_and_change_nothing() {
    let mm = Mm::new().unwrap();
    let (sent, got) = mpsc::channel();
    let other: Subscription<_> = mm.register(Within::new(|| ())).unwrap();
    let last_user = Mm::new().unwrap();
    let watched = last_user.register(Within::new(|| ())).unwrap();
    let _acting = mm.register(Within::new(move || {
        assert_eq!(synchronize().unwrap_err().rule(), Some("DV-7"));
        let Err(Refused { guard, error }) = last_user.close() else {
            panic!("its end would wait for this callback")
        };
        assert_eq!(error.rule(), Some("DV-7"));
        let Err(Refused { guard: other, .. }) = other.unregister() else {
            panic!("it would wait for this callback")
        };
        sent.send((guard, other)).unwrap();
    }));
    mm.invalidate_range_start(PAGE).unwrap().end();
    let (last_user, other) = got.recv().unwrap();
    assert_eq!(last_user.users(), 1);
    assert!(other.unregister().is_ok(), "still registered");
    last_user.close().unwrap();
    drop(watched);
}

#[test]
fn dv_7_intervals() {
    let mm = Arc::new(Mm::new().unwrap());
    let slot: Arc<Mutex<Option<IntervalSubscription<Seq>>>> = Arc::default();
    let in_slot = Arc::clone(&slot);
    let _acting = mm.insert(
        0x1000,
        0x1000,
        Within::new(move || {
            let other = in_slot.lock().unwrap().take().unwrap();
            assert_eq!(other.read_begin().unwrap_err().rule(), Some("DV-7"));
            let Err(Refused { guard, error }) = other.remove() else {
                panic!("it would wait for this callback")
            };
            assert_eq!(error.rule(), Some("DV-7"));
            // Dropped here it is removed later.
            drop(guard);
        }),
    );
    let alive = Arc::new(());
    *slot.lock().unwrap() = Some(mm.insert(0, 0x800, Seq::default()).unwrap());
    // `other` counts as being invalidated: it was inserted in an even period that turns odd.
    let outer = mm
        .invalidate_range_start(Change::new(0..0x2000, Event::CLEAR))
        .unwrap();
    drop(alive);
    assert_eq!(mm.references(), 3);
    outer.end();
    // The worker drops the reference once the busy period is over.
    while mm.references() != 2 {
        thread::yield_now();
    }
}

#[test]
fn ml_5_own_locks_are_errors() {
    let mm = Mm::new().unwrap();
    let reading = mm.mmap_read_lock().unwrap();
    let ml_5 = Some("ML-5");
    assert_eq!(mm.mmap_read_lock().unwrap_err().rule(), ml_5);
    assert_eq!(mm.mmap_write_lock().unwrap_err().rule(), ml_5);
    assert_eq!(mm.insert(0, 1, Seq::default()).unwrap_err().rule(), ml_5);
    assert_eq!(mm.register(Within::new(|| ())).unwrap_err().rule(), ml_5);
    let factory = Factory::new(|_| Ok(Within::new(|| ())));
    assert_eq!(factory.get(&mm).unwrap_err().rule(), ml_5);
    drop(reading);
    let rmap = mm.rmap_read_lock().unwrap();
    assert_eq!(mm.register(Within::new(|| ())).unwrap_err().rule(), ml_5);
    drop(rmap);
    let writing = mm.mmap_write_lock().unwrap();
    let interval = mm.insert(0, 1, Seq::default()).unwrap();
    let share = factory.get(&mm).unwrap();
    drop((writing, share));
    // With intervals on, an insert takes no lock (II-11).
    let reading = mm.mmap_read_lock().unwrap();
    let second = mm.insert(0, 1, Seq::default()).unwrap();
    drop((reading, interval, second));
    drop(mm.rmap_write_lock().unwrap());
}

#[test]
fn gp_7_the_last_put_frees_and_get_finds() {
    let log = Log::default();
    let made = Arc::new(AtomicUsize::new(0));
    let (factory_log, count) = (Arc::clone(&log), Arc::clone(&made));
    let factory = Factory::new(move |_| {
        count.fetch_add(1, SeqCst);
        Ok(Recorder::new("f", &factory_log))
    });
    let mm = Mm::new().unwrap();
    let first = factory.get(&mm).unwrap();
    let second = factory.get(&mm).unwrap();
    // The table outlives its factory.
    drop(factory);
    assert_eq!((made.load(SeqCst), mm.references()), (1, 2));
    first.put();
    synchronize().unwrap();
    assert!(taken(&log).is_empty());
    second.put();
    synchronize().unwrap();
    assert_eq!(taken(&log), ["drop f"], "and no release");
    assert_eq!(mm.references(), 1);
}

#[test]
fn gp_3_a_failed_make_is_the_error() {
    let mm = Mm::new().unwrap();
    let factory: Factory<Recorder> = Factory::new(|_| Err(libc::EPERM));
    assert_eq!(factory.get(&mm).unwrap_err(), Error::Errno(libc::EPERM));
    let panics: Factory<Recorder> = Factory::new(|_| panic!("in make"));
    let panic = catch_unwind(AssertUnwindSafe(|| panics.get(&mm).map(drop))).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"in make"));
    assert!(mm.mmap_try_read_lock().is_some(), "mmap_lock is free again");
    let mixed: Factory<Within<fn()>> = Factory::with_ops(
        Ops::ARCH_INVALIDATE_SECONDARY_TLBS | Ops::INVALIDATE_RANGE_START,
        |_| Ok(Within(Mutex::new(None))),
    );
    assert_eq!(mixed.get(&mm).unwrap_err().rule(), Some("RG-2"));
}

#[test]
fn a_panic_reaches_the_caller_after_everybody_was_told() {
    let log = Log::default();
    let mm = Mm::new().unwrap();
    let _last = mm.register(Recorder::new("a", &log)).unwrap();
    let _panics = mm
        .register(Within::new(|| panic!("in a callback")))
        .unwrap();
    let panic = catch_unwind(AssertUnwindSafe(|| {
        mm.invalidate_range_start(PAGE).map(Invalidation::end)
    }));
    assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"in a callback"));
    let start = "start CLEAR [0x1000, 0x2000) true a";
    assert_eq!(taken(&log), [start, "end a"], "the range was ended");
    // Grace periods are not held up by it.
    synchronize().unwrap();
    mm.invalidate_range_start(PAGE).unwrap().end();
}

#[test]
fn a_panic_in_a_nonblockable_range_owes_nothing() {
    let mm = Mm::new().unwrap();
    let _panics = mm
        .insert(0, 0x2000, Within::new(|| panic!("in a callback")))
        .unwrap();
    let start = || mm.invalidate_range_start_nonblock(PAGE).map(drop);
    assert!(catch_unwind(AssertUnwindSafe(start)).is_err());
    assert_eq!(mm.seq_and_active(), (4, 0));
}

/// The first interval of an address space, inserted without a lock of DV-2 while a range is in flight, does not take the count of
/// another range away.
#[test]
fn re_6_a_range_that_was_not_counted_is_not_counted_out() {
    let mm = Mm::new().unwrap();
    let before = mm.invalidate_range_start(PAGE).unwrap();
    let interval = mm.insert(0x1000, 0x1000, Seq::default()).unwrap();
    let counted = mm.invalidate_range_start(PAGE).unwrap();
    before.end();
    assert_eq!(mm.seq_and_active(), (3, 1));
    counted.end();
    assert_eq!(mm.seq_and_active(), (4, 0));
    drop(interval);
}

#[test]
fn a_drop_inside_a_callback_puts() {
    let log = Log::default();
    let mm = Mm::new().unwrap();
    let dropped = mm.register(Recorder::new("a", &log)).unwrap();
    let _acting = mm.register(Within::new(move || drop(dropped))).unwrap();
    let range = mm.invalidate_range_start(PAGE).unwrap();
    synchronize().unwrap();
    let calls = taken(&log);
    assert_eq!(calls.last().map(String::as_str), Some("drop a"));
    assert!(!calls.iter().any(|call| call.starts_with("release")));
    range.end();
}

#[test]
fn ml_2_the_last_user_may_go_inside_a_callback() {
    let log = Log::default();
    let (mm, last) = (Mm::new().unwrap(), Mm::new().unwrap());
    let watched = last.register(Recorder::new("a", &log)).unwrap();
    let _acting = mm.register(Within::new(move || drop(last))).unwrap();
    mm.invalidate_range_start(PAGE).unwrap().end();
    while log.lock().unwrap().is_empty() {
        thread::yield_now();
    }
    assert_eq!(taken(&log), ["release a"]);
    drop(watched);
}

#[test]
fn threads_register_read_and_invalidate_at_once() {
    const ROUNDS: usize = 300;
    let mm = Mm::new().unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    struct Count(Arc<AtomicUsize>);
    impl IntervalNotifier for Count {
        fn invalidate(&self, interval: &Interval, _: &Range<'_>, cur_seq: u64) -> bool {
            interval.set_seq(cur_seq);
            self.0.fetch_add(1, SeqCst);
            true
        }
    }
    impl Notifier for Count {
        const OPS: Ops = Ops::INVALIDATE_RANGE_START;
        fn invalidate_range_start(&self, _: &Range<'_>) -> Result<(), Refusal> {
            self.0.fetch_add(1, SeqCst);
            Ok(())
        }
    }
    let lasting = mm.insert(0, 0x2000, Count(Arc::clone(&calls))).unwrap();
    let begin = Barrier::new(4);
    thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                begin.wait();
                for _ in 0..ROUNDS {
                    let reading = mm.mmap_read_lock().unwrap();
                    mm.invalidate_range_start(PAGE).unwrap().end();
                    drop(reading);
                }
            });
        }
        s.spawn(|| {
            begin.wait();
            for _ in 0..ROUNDS {
                let first = mm
                    .insert(0x1000, 0x1000, Count(Arc::clone(&calls)))
                    .unwrap();
                let second = mm.register(Count(Arc::clone(&calls))).unwrap();
                assert_eq!(lasting.read_begin().unwrap().seq() % 2, 1);
                drop((first, second));
            }
        });
        begin.wait();
    });
    assert!(calls.load(SeqCst) >= 2 * ROUNDS);
    drop(lasting);
    assert_eq!((mm.users(), mm.references()), (1, 1));
    assert_eq!(Arc::strong_count(&calls), 1, "everything was dropped");
}
