// SPDX-License-Identifier: MIT OR Apache-2.0
//! Intervals: pairs that touch 0, 1 or 16 of them, updates, reads; alone and beside another invalidator.
//!
//! The peer is the stand-in, whose tree is compared with the kernel's own in every race: where they differ by more than a
//! tenth, a target's line fails, whatever the library did.
//!
//! Where memory lies decides what the caches keep of it, so everything is built a few times, in different places, and a race is
//! run on each. One during which the machine took memory away (ground.rs) is run again.

use crate::ground::{Memory, settle, sweep};
use crate::harness::{Candidate, Race, Settings, race};
use crate::pairs::plot;
use crate::report::{Goal, Report, Target, number, power};
use crate::subject::{KERNEL_TREE, Place, SHARED, STAND_IN, STATIC, Set, Subject, Subjects};
use crate::threads::{beside, cpus};

type Sets = Vec<(&'static str, Set)>;

/// The same in several places. All stay until the end, so that the places differ.
type Builds = Vec<Sets>;

/// In how many places; two of a million, as building takes longer than measuring.
fn places(n: u64) -> usize {
    if n < 1_000_000 { 3 } else { 2 }
}

/// How often a race is run on ground that does not stay as it is.
const TRIES: usize = 5;

const TOLERANCE: f64 = 0.1;

/// A race on each build, of its share of the rounds; again, if the machine took memory away meanwhile.
fn race_on<'a>(
    builds: &'a Builds,
    title: &str,
    settings: &Settings,
    candidates: impl Fn(&'a Sets) -> Vec<Candidate<'a>>,
) -> Race {
    let settings = Settings {
        rounds: settings.rounds.div_ceil(builds.len()),
        ..*settings
    };
    let mut tries = 0;
    loop {
        settle();
        let each = builds
            .iter()
            .map(|sets| race(title, &settings, candidates(sets)));
        let mut all = each.reduce(Race::join).expect("a build");
        tries += 1;
        all.unsteady = !sweep().is_calm();
        if !all.unsteady {
            return all;
        }
        println!("{title}: memory was taken away below this process, try {tries}");
        if tries == TRIES {
            return all;
        }
    }
}

/// Something that is raced on the sets.
#[derive(Clone, Copy)]
enum Work {
    Pairs(u64, Place),
    Updates(Place),
    Reads,
}

impl Work {
    fn candidates(self, sets: &Sets) -> Vec<Candidate<'_>> {
        let run = move |set: &Set, n| match self {
            Self::Pairs(hits, place) => set.pairs(0, hits, place, n),
            Self::Updates(place) => set.updates(place, n),
            Self::Reads => set.reads(n),
        };
        sets.iter()
            .map(|(name, set)| Candidate::new(*name, move |n| run(set, n)))
            .collect()
    }

    fn title(self, n: u64) -> String {
        let name = |place| if place == Place::Hot { "hot" } else { "random" };
        match self {
            Self::Pairs(hits, place) => format!("Pair, N={} k={hits} {}", power(n), name(place)),
            Self::Updates(place) => format!("Remove and insert, N={} {}", power(n), name(place)),
            Self::Reads => "read_begin and read_retry".into(),
        }
    }
}

/// How long the stand-in takes, to what it takes with the kernel's tree. A race in which they differ too much is followed by
/// longer ones of these two alone, up to three: what a neighbour on this machine does to a short race is not the tree's fault.
fn deviation(race_of_all: &Race, settings: &Settings, builds: &Builds, work: Work) -> f64 {
    let mut off = race_of_all.ratio(STAND_IN, KERNEL_TREE);
    let longer = Settings {
        rounds: settings.rounds * 2,
        turn: 1e6,
        ..*settings
    };
    for _ in 0..3 {
        if off.is_nan() || (off - 1.0).abs() <= TOLERANCE {
            break;
        }
        let two = |sets| {
            let mut two = work.candidates(sets);
            two.retain(|candidate| [STAND_IN, KERNEL_TREE].contains(&candidate.name()));
            two
        };
        off = race_on(builds, "", &longer, two).ratio(STAND_IN, KERNEL_TREE);
    }
    off
}

fn validate(off: f64, mut target: Target) -> Target {
    if off.is_nan() {
        return target.note("stand-in not validated");
    }
    if (off - 1.0).abs() > TOLERANCE {
        target.void = Some(format!(
            "the stand-in takes {} of what it takes with the kernel's tree",
            number(off)
        ));
    }
    target
}

/// The targets at this N: for k = 0, 1, 16, and updates.
fn goals(n: u64) -> Option<([f64; 3], f64)> {
    match n {
        100 => Some(([0.50, 0.40, 0.55], 0.75)),
        10_000 => Some(([0.18, 0.25, 0.13], 0.65)),
        1_000_000 => Some(([0.10, 0.18, 0.18], 0.45)),
        _ => None,
    }
}

const HITS: [u64; 3] = [0, 1, 16];

pub(crate) fn measure(report: &mut Report, settings: &Settings, subjects: &Subjects) {
    let sizes: &[u64] = if settings.quick {
        &[100, 10_000, 1_000_000]
    } else {
        &[100, 1_000, 10_000, 100_000, 1_000_000]
    };
    let mut growth: [Vec<(f64, usize)>; 4] = Default::default();
    for &n in sizes {
        let builds: Builds = (0..places(n)).map(|_| build(report, subjects, n)).collect();
        one_size(report, settings, &builds, n, &mut growth);
        if n == 10_000 {
            let goal = Some(("T8", 0.20));
            let off = run(report, settings, &builds, n, Work::Reads, goal);
            beside_another(report, settings, &builds, off);
        }
        if n == 1_000_000 {
            // Taking millions of them apart one by one takes longer than to measure them.
            std::mem::forget(builds);
        }
    }
    let files = [
        ("intervals-0", "Pair that touches no interval"),
        ("intervals-1", "Pair that touches 1 interval"),
        ("intervals-16", "Pair that touches 16 intervals"),
        ("updates", "Remove and insert an interval"),
    ];
    for ((file, title), races) in files.into_iter().zip(&growth) {
        plot(report, file, title, "intervals of the mm", races);
    }
}

/// A set of each subject. At the largest size the report says what they are on.
fn build(report: &mut Report, subjects: &Subjects, n: u64) -> Sets {
    let make = |subject: Subject| {
        let before = Memory::now();
        let set = subject.set(n);
        let memory = Memory::now().since(before);
        if n == 1_000_000 {
            let what = format!("memory of N=1e6, {}", subject.name);
            let megabytes = memory.bytes >> 20;
            let share = memory.share() * 100.0;
            report.fact(
                &what,
                &format!("{megabytes} MB, {share:.0} % on huge pages"),
            );
        }
        (subject.name, set)
    };
    subjects.with_intervals().into_iter().map(make).collect()
}

fn one_size(
    report: &mut Report,
    settings: &Settings,
    builds: &Builds,
    n: u64,
    growth: &mut [Vec<(f64, usize)>; 4],
) {
    let goals = goals(n);
    for (i, hits) in HITS.into_iter().enumerate() {
        let id = if hits == 0 { "T5" } else { "T6" };
        let work = Work::Pairs(hits, Place::Random);
        run(
            report,
            settings,
            builds,
            n,
            work,
            goals.map(|(pairs, _)| (id, pairs[i])),
        );
        growth[i].push((n as f64, report.races.len() - 1));
        run(
            report,
            settings,
            builds,
            n,
            Work::Pairs(hits, Place::Hot),
            None,
        );
    }
    let work = Work::Updates(Place::Random);
    run(
        report,
        settings,
        builds,
        n,
        work,
        goals.map(|(_, update)| ("T7", update)),
    );
    growth[3].push((n as f64, report.races.len() - 1));
    let work = Work::Updates(Place::Hot);
    run(
        report,
        settings,
        builds,
        n,
        work,
        goals.map(|_| ("T7", 1.3)),
    );
}

/// Races, and judges both libraries if there is a goal. Returns how far off the stand-in's tree was, if that was asked.
fn run(
    report: &mut Report,
    settings: &Settings,
    builds: &Builds,
    n: u64,
    work: Work,
    goal: Option<(&'static str, f64)>,
) -> f64 {
    let race = race_on(builds, &work.title(n), settings, |sets| {
        work.candidates(sets)
    });
    let mut off = f64::NAN;
    if let Some((id, goal)) = goal {
        off = deviation(&race, settings, builds, work);
        judge(report, &race, off, id, &work.title(n), goal);
    }
    report.add(race);
    off
}

fn judge(report: &mut Report, race: &Race, off: f64, id: &'static str, what: &str, goal: f64) {
    for name in [STATIC, SHARED] {
        let ratio = race.ratio(name, STAND_IN);
        let target = Target::new(id, format!("{what}, {name}"), ratio, Goal::AtMost(goal));
        report.target(steady(race, validate(off, target)));
    }
}

/// A race that was disturbed each time says nothing.
fn steady(race: &Race, mut target: Target) -> Target {
    if race.unsteady {
        target.void = Some(format!(
            "memory was taken away below this process in each of {TRIES} tries"
        ));
    }
    target
}

/// Two threads on one mm. `off`: of the tree; here it would drown in what two threads do to each other.
fn beside_another<'a>(report: &mut Report, settings: &Settings, builds: &'a Builds, off: f64) {
    if cpus().len() < 2 {
        report.skip("T8 beside an invalidator, T11: one CPU");
        return;
    }
    let readers = |sets: &'a Sets| {
        let each = sets.iter().map(|(name, set)| {
            Candidate::timed(*name, move |n| {
                let invalidator = |chunk| set.pairs(1, 1, Place::Random, chunk);
                beside(|| set.reads(n), invalidator).0
            })
        });
        each.collect()
    };
    let title = "read_begin and read_retry beside an invalidator";
    let race_of_reads = race_on(builds, title, settings, readers);
    judge(report, &race_of_reads, off, "T8", title, 0.05);
    report.add(race_of_reads);

    for hits in [0, 1] {
        let invalidators = |sets: &'a Sets| {
            let each = sets.iter().map(|(name, set)| {
                Candidate::timed(*name, move |n| {
                    let other = |chunk| set.pairs(1, hits, Place::Random, chunk);
                    let (took, more) = beside(|| set.pairs(0, hits, Place::Random, n), other);
                    took * n as f64 / (n + more) as f64
                })
            });
            each.collect()
        };
        let title = format!("Pair, N=1e4 k={hits}, two invalidators on one mm");
        let race = race_on(builds, &title, settings, invalidators);
        for name in [STATIC, SHARED].into_iter().filter(|_| hits == 0) {
            let gain = race.ratio(STAND_IN, name);
            let target = Target::new(
                "T11",
                format!("two invalidators, {name}"),
                gain,
                Goal::AtLeast(3.5),
            );
            report.target(steady(&race, validate(off, target)));
        }
        report.add(race);
    }
}
