// SPDX-License-Identifier: MIT OR Apache-2.0
//! Read sections: the library's (`rcu_read_lock`) beside what else may protect a list while it is walked.
//!
//! Not all peers do the same: epochs and hazard pointers are not meant to be held across a sleep, qsbr wants the callers'
//! cooperation (here a thread is on line only inside of a section), locks stop writers.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{ptr, sync};

use arc_swap::ArcSwap;
use haphazard::HazardPointer;

use crate::harness::{Candidate, Settings, race};
use crate::report::{Goal, Report, Target};
use crate::subject::{BARE, SHARED, STATIC, Subjects};
use crate::threads::{Part, beside, cpus};
use crate::urcu::Flavour;

type Loop<'a> = Box<dyn Fn(u64) + Sync + 'a>;

/// One way to be safe while a list is walked.
struct Section<'a> {
    name: String,
    empty: Loop<'a>,
    call: Loop<'a>,
    nested: Option<Loop<'a>>,
    /// What a thread does before and after.
    attach: Loop<'a>,
    detach: Loop<'a>,
}

type Callback = fn(&mut u64);
static CALLBACK: Callback = |count| *count += 1;

fn callback(count: &mut u64) {
    // SAFETY: A valid function; volatile, so that it stays an indirect call.
    let function = unsafe { ptr::read_volatile(&raw const CALLBACK) };
    function(count);
}

fn call_each(n: u64, mut each: impl FnMut(&mut u64)) {
    let mut calls = 0;
    for _ in 0..n {
        each(&mut calls);
    }
    assert_eq!(calls, n);
}

/// From `enter`, whose value is the section.
macro_rules! section {
    ($name:expr, $enter:expr) => {
        section!($name, $enter, None)
    };
    ($name:expr, $enter:expr, nested) => {
        section!(
            $name,
            $enter,
            Some(Box::new(|n| call_each(n, |calls| {
                let outer = black_box($enter);
                let inner = black_box($enter);
                callback(calls);
                drop(inner);
                drop(outer);
            })))
        )
    };
    ($name:expr, $enter:expr, $nested:expr) => {
        Section {
            name: $name.into(),
            empty: Box::new(|n| {
                for _ in 0..n {
                    drop(black_box($enter));
                }
            }),
            call: Box::new(|n| {
                call_each(n, |calls| {
                    let guard = $enter;
                    callback(calls);
                    drop(guard);
                })
            }),
            nested: $nested,
            attach: Box::new(|_| ()),
            detach: Box::new(|_| ()),
        }
    };
}

fn library<'a>(subjects: &Subjects) -> Vec<Section<'a>> {
    [subjects.library, subjects.shared, subjects.stand_in]
        .map(|subject| Section {
            name: subject.name.into(),
            empty: Box::new(move |n| subject.section_empty(n)),
            call: Box::new(move |n| subject.section_call(n)),
            nested: Some(Box::new(move |n| subject.section_nested(n))),
            attach: Box::new(|_| ()),
            detach: Box::new(|_| ()),
        })
        .into()
}

fn liburcu<'a>() -> impl Iterator<Item = Section<'a>> {
    Flavour::all().into_iter().map(|flavour| Section {
        name: flavour.name(),
        empty: Box::new(move |n| flavour.empty(n)),
        call: Box::new(move |n| flavour.call(n)),
        nested: Some(Box::new(move |n| flavour.nested(n))),
        attach: Box::new(move |_| flavour.attach()),
        detach: Box::new(move |_| flavour.detach()),
    })
}

/// What the Rust peers need to exist.
struct World {
    seize: seize::Collector,
    pointer: haphazard::AtomicPtr<u64>,
    swap: ArcSwap<u64>,
    mutex: sync::Mutex<()>,
    rwlock: sync::RwLock<()>,
    parking_mutex: parking_lot::Mutex<()>,
    parking_rwlock: parking_lot::RwLock<()>,
    counter: AtomicUsize,
}

impl World {
    fn new() -> Self {
        Self {
            seize: seize::Collector::new(),
            pointer: haphazard::AtomicPtr::from(Box::new(1)),
            swap: ArcSwap::from_pointee(1),
            mutex: sync::Mutex::new(()),
            rwlock: sync::RwLock::new(()),
            parking_mutex: parking_lot::Mutex::new(()),
            parking_rwlock: parking_lot::RwLock::new(()),
            counter: AtomicUsize::new(0),
        }
    }
}

/// Readers in one counter of the process.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn enter(counter: &'a AtomicUsize) -> Self {
        // ORDERING: a full barrier, as a counter of readers needs; and the one in `drop`.
        counter.fetch_add(1, Ordering::SeqCst);
        Self(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn crates<'a>(world: &'a World) -> Vec<Section<'a>> {
    vec![
        section!("crossbeam-epoch", crossbeam_epoch::pin(), nested),
        section!("seize", world.seize.enter(), nested),
        Section {
            call: Box::new(|n| {
                let mut hazard = HazardPointer::new();
                call_each(n, |calls| {
                    let value = world.pointer.safe_load(&mut hazard);
                    callback(calls);
                    black_box(value);
                    hazard.reset_protection();
                });
            }),
            ..section!("haphazard, pointer kept", {
                let mut hazard = HazardPointer::new();
                black_box(world.pointer.safe_load(&mut hazard).is_some());
                hazard
            })
        },
        section!("haphazard, pointer of its own", {
            let mut hazard = HazardPointer::new();
            black_box(world.pointer.safe_load(&mut hazard).is_some());
            hazard
        }),
        section!("arc-swap", world.swap.load(), nested),
        section!(
            "one counter, atomic",
            Counted::enter(&world.counter),
            nested
        ),
        section!(
            "std Mutex",
            world
                .mutex
                .lock()
                .unwrap_or_else(sync::PoisonError::into_inner)
        ),
        section!(
            "std RwLock, read",
            world
                .rwlock
                .read()
                .unwrap_or_else(sync::PoisonError::into_inner)
        ),
        section!("parking_lot Mutex", world.parking_mutex.lock()),
        section!("parking_lot RwLock, read", world.parking_rwlock.read()),
    ]
}

pub(crate) fn measure(report: &mut Report, settings: &Settings, subjects: &Subjects) {
    let world = World::new();
    let mut all = library(subjects);
    all.extend(liburcu());
    all.extend(crates(&world));
    for section in &all {
        (section.attach)(0);
    }
    let bare = || Candidate::new(BARE, |n| call_each(n, callback));
    report.add(race(
        "Read section around nothing",
        settings,
        all.iter()
            .map(|section| Candidate::new(&section.name, &section.empty))
            .collect(),
    ));
    let with_call = |nested: bool| {
        all.iter().filter_map(move |section| {
            let body = if nested {
                section.nested.as_ref()?
            } else {
                &section.call
            };
            Some(Candidate::new(
                format!("{}{}", section.name, if nested { ", nested" } else { "" }),
                body,
            ))
        })
    };
    let mut candidates = vec![bare()];
    candidates.extend(with_call(false));
    candidates.extend(with_call(true));
    let race_of_calls = report.add(race(
        "Read section around a callback; two sections around it",
        settings,
        candidates,
    ));
    let extra = [STATIC, SHARED]
        .map(|name| race_of_calls.compare(&format!("{name}, nested"), name, |two, one| two - one));
    for (name, extra) in [STATIC, SHARED].into_iter().zip(extra) {
        report.target(
            Target::new(
                "T4",
                format!("nested section, {name}"),
                extra,
                Goal::AtMost(0.5),
            )
            .unit("ns"),
        );
    }
    two_readers(report, settings, &all);
    for section in &all {
        (section.detach)(0);
    }
}

/// Nanoseconds of the clock for each section, whoever had it: half of the time of one reader is perfect.
fn two_readers(report: &mut Report, settings: &Settings, all: &[Section<'_>]) {
    if cpus().len() < 2 {
        report.skip("two readers: one CPU");
        return;
    }
    let mut candidates = Vec::new();
    for section in all {
        candidates.push(Candidate::new(
            format!("{}, 1", section.name),
            &section.call,
        ));
        candidates.push(Candidate::timed(format!("{}, 2", section.name), move |n| {
            let mut part = Part::new(|| (section.attach)(0), || (section.detach)(0));
            let second = move |chunk| {
                part.begin();
                (section.call)(chunk);
            };
            let (took, more) = beside(|| (section.call)(n), second);
            took * n as f64 / (n + more) as f64
        }));
    }
    let race = report.add(race(
        "Read section around a callback, 1 and 2 threads",
        settings,
        candidates,
    ));
    let gains =
        [STATIC, SHARED].map(|name| race.ratio(&format!("{name}, 1"), &format!("{name}, 2")));
    for (name, gain) in [STATIC, SHARED].into_iter().zip(gains) {
        report.target(Target::new(
            "T4",
            format!("2 readers, {name}"),
            gain,
            Goal::AtLeast(1.9),
        ));
    }
}
