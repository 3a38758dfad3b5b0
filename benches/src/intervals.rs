// SPDX-License-Identifier: MIT OR Apache-2.0
//! Intervals: pairs that touch 0, 1 or 16 of them, updates, reads; alone and beside another invalidator.
//!
//! The peer is the stand-in, whose tree is compared with the kernel's own in every race: where they differ by more than a
//! tenth, a target's line fails, whatever the library did.

use crate::harness::{Candidate, Race, Settings, race};
use crate::pairs::plot;
use crate::report::{Goal, Report, Target, number, power};
use crate::subject::{KERNEL_TREE, Place, SHARED, STAND_IN, STATIC, Set, Subjects};
use crate::threads::{beside, cpus};

type Sets = Vec<(&'static str, Set)>;

const TOLERANCE: f64 = 0.1;

/// Of the tree that a race ran on.
fn validate(race: &Race, mut target: Target) -> Target {
    let off = race.ratio(STAND_IN, KERNEL_TREE);
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
        let sets: Sets = subjects
            .with_intervals()
            .into_iter()
            .map(|s| (s.name, s.set(n)))
            .collect();
        for place in [Place::Random, Place::Hot] {
            for (i, hits) in HITS.into_iter().enumerate() {
                let race = race(
                    title("Pair", n, Some(hits), place),
                    settings,
                    pairs(&sets, hits, place),
                );
                if let (Some((goals, _)), Place::Random) = (goals(n), place) {
                    let id = if hits == 0 { "T5" } else { "T6" };
                    target_of_both(
                        report,
                        &race,
                        id,
                        &format!("N={} k={hits}", power(n)),
                        goals[i],
                    );
                }
                report.add(race);
                if place == Place::Random {
                    growth[i].push((n as f64, report.races.len() - 1));
                }
            }
            let race = race(
                title("Remove and insert", n, None, place),
                settings,
                updates(&sets, place),
            );
            if let Some((_, goal)) = goals(n) {
                match place {
                    Place::Random => {
                        target_of_both(report, &race, "T7", &format!("N={} random", power(n)), goal)
                    }
                    Place::Hot => {
                        target_of_both(report, &race, "T7", &format!("N={} hot", power(n)), 1.3)
                    }
                }
            }
            report.add(race);
            if place == Place::Random {
                growth[3].push((n as f64, report.races.len() - 1));
            }
        }
        if n == 10_000 {
            reads(report, settings, &sets);
            beside_another(report, settings, &sets);
        }
        if n == 1_000_000 {
            // Taking a million of them apart one by one takes longer than to measure them.
            std::mem::forget(sets);
        }
    }
    let files = [
        ("intervals-0", "Pair that touches no interval"),
        ("intervals-1", "Pair that touches 1 interval"),
    ];
    let more = [
        ("intervals-16", "Pair that touches 16 intervals"),
        ("updates", "Remove and insert an interval"),
    ];
    for ((file, title), races) in files.into_iter().chain(more).zip(&growth) {
        plot(report, file, title, "intervals of the mm", races);
    }
}

fn title(what: &str, n: u64, hits: Option<u64>, place: Place) -> String {
    let hits = hits.map(|hits| format!(" k={hits}")).unwrap_or_default();
    format!(
        "{what}, N={}{hits} {}",
        power(n),
        if place == Place::Hot { "hot" } else { "random" }
    )
}

fn pairs(sets: &Sets, hits: u64, place: Place) -> Vec<Candidate<'_>> {
    sets.iter()
        .map(|(name, set)| Candidate::new(*name, move |n| set.pairs(0, hits, place, n)))
        .collect()
}

fn updates(sets: &Sets, place: Place) -> Vec<Candidate<'_>> {
    sets.iter()
        .map(|(name, set)| Candidate::new(*name, move |n| set.updates(place, n)))
        .collect()
}

fn target_of_both(report: &mut Report, race: &Race, id: &'static str, what: &str, goal: f64) {
    for name in [STATIC, SHARED] {
        let target = Target::new(
            id,
            format!("{what} {name}"),
            race.ratio(name, STAND_IN),
            Goal::AtMost(goal),
        );
        report.target(validate(race, target));
    }
}

fn reads(report: &mut Report, settings: &Settings, sets: &Sets) {
    let alone = sets
        .iter()
        .map(|(name, set)| Candidate::new(*name, |n| set.reads(n)))
        .collect();
    let race = race("read_begin and read_retry", settings, alone);
    target_of_both(report, &race, "T8", "alone", 0.20);
    report.add(race);
}

fn beside_another(report: &mut Report, settings: &Settings, sets: &Sets) {
    if cpus().len() < 2 {
        report.skip("T8 beside an invalidator, T11: one CPU");
        return;
    }
    let readers = sets
        .iter()
        .map(|(name, set)| {
            Candidate::timed(*name, move |n| {
                beside(
                    || set.reads(n),
                    |chunk| set.pairs(1, 1, Place::Random, chunk),
                )
                .0
            })
        })
        .collect();
    let race_of_reads = race(
        "read_begin and read_retry beside an invalidator",
        settings,
        readers,
    );
    target_of_both(report, &race_of_reads, "T8", "beside an invalidator", 0.05);
    report.add(race_of_reads);

    for hits in [0, 1] {
        let invalidators = sets
            .iter()
            .map(|(name, set)| {
                Candidate::timed(*name, move |n| {
                    let other = |chunk| set.pairs(1, hits, Place::Random, chunk);
                    let (took, more) = beside(|| set.pairs(0, hits, Place::Random, n), other);
                    took * n as f64 / (n + more) as f64
                })
            })
            .collect();
        let race = race(
            format!("Pair, N=1e4 k={hits}, two invalidators on one mm"),
            settings,
            invalidators,
        );
        if hits == 0 {
            for name in [STATIC, SHARED] {
                let gain = race.ratio(STAND_IN, name);
                let target = Target::new(
                    "T11",
                    format!("two invalidators, {name}"),
                    gain,
                    Goal::AtLeast(3.5),
                );
                report.target(validate(&race, target));
            }
        }
        report.add(race);
    }
}
