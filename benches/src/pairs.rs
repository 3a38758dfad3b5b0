// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pairs of start and end on an mm with notifiers: none, some, many; many mms.

use std::process::Command;

use crate::harness::{Candidate, Race, Settings, race};
use crate::plot::{Plot, Series};
use crate::report::{Goal, Report, Target, number};
use crate::subject::{BARE, FLOOR, SHARED, STAND_IN, STATIC, Subjects};

pub(crate) fn measure(report: &mut Report, settings: &Settings, subjects: &Subjects) {
    let mut growth: Vec<(f64, usize)> = Vec::new();
    for notifiers in [0, 1, 2, 4, 8, 16, 32, 64] {
        let race = pairs(settings, subjects, notifiers);
        report.add(race);
        growth.push((notifiers as f64, report.races.len() - 1));
        targets(report, notifiers);
    }
    plot(
        report,
        "notifiers",
        "Pair on an mm with notifiers",
        "notifiers of the mm",
        &growth[1..],
    );
    inlines(report);
    young(report, settings, subjects);
    crowds(report, settings, subjects);
}

fn pairs(settings: &Settings, subjects: &Subjects, notifiers: u64) -> Race {
    let all = [
        subjects.library,
        subjects.shared,
        subjects.stand_in,
        subjects.floor,
    ]
    .map(|s| (s.name, s.mm(notifiers)));
    let mut candidates = Vec::new();
    if notifiers > 0 {
        let mm = &all[0].1;
        candidates.push(Candidate::new(BARE, move |n| mm.bare(2 * notifiers, n)));
    }
    for (name, mm) in &all {
        candidates.push(Candidate::new(*name, move |n| {
            mm.pairs(0, 2 * notifiers, n)
        }));
    }
    race(format!("Pair, {notifiers} notifiers"), settings, candidates)
}

fn targets(report: &mut Report, notifiers: u64) {
    let race = report.races.last().expect("the race of these pairs");
    let ratio = |a, b, goal, of: &str| {
        Target::new(
            "",
            format!("pair, notifiers={notifiers}, {a} to {of}"),
            race.ratio(a, b),
            goal,
        )
    };
    let named = |id, target: Target| Target { id, ..target };
    // What no implementation can do better than on this machine.
    let limit = |of| {
        format!(
            "without protection {} of {of}",
            number(race.ratio(FLOOR, of))
        )
    };
    let targets = match notifiers {
        0 => vec![
            named("T3", ratio(STATIC, STAND_IN, Goal::AtMost(1.1), STAND_IN)),
            named("T3", ratio(SHARED, STAND_IN, Goal::AtMost(1.1), STAND_IN)),
        ],
        1 => vec![
            named(
                "T1",
                ratio(
                    STATIC,
                    FLOOR,
                    Goal::AtMost(1.1),
                    "the same walk without protection",
                ),
            ),
            named("T1", ratio(STATIC, BARE, Goal::AtMost(1.85), BARE)).note(limit(BARE)),
            named("T1", ratio(SHARED, BARE, Goal::AtMost(2.4), BARE)).note(limit(BARE)),
            named("T2", ratio(STAND_IN, STATIC, Goal::AtLeast(4.0), STATIC)).note(limit(STAND_IN)),
        ],
        8 => vec![named("T2", ratio(STATIC, BARE, Goal::AtMost(1.15), BARE)).note(limit(BARE))],
        _ => Vec::new(),
    };
    for target in targets {
        report.target(target);
    }
}

/// A line for each candidate, through its medians.
pub(crate) fn plot(
    report: &mut Report,
    file: &'static str,
    title: &str,
    x: &'static str,
    races: &[(f64, usize)],
) {
    let names: Vec<String> = report.races[races[0].1]
        .rows
        .iter()
        .map(|row| row.name.clone())
        .collect();
    let series = names
        .into_iter()
        .map(|name| Series {
            points: races
                .iter()
                .map(|&(x, race)| (x, report.races[race].median(&name)))
                .filter(|p| p.1.is_finite())
                .collect(),
            name,
        })
        .collect();
    report.plots.push(Plot {
        file,
        title: title.into(),
        x,
        y: "ns",
        series,
    });
}

/// What an mm without notifiers runs: no locked instruction, no fence, no thread-local storage in it. That the search finds such
/// instructions is seen in the stand-in, which has them.
fn inlines(report: &mut Report) {
    if !cfg!(target_arch = "x86_64") {
        report.skip("T3: the disassembly is understood on x86-64 only");
        return;
    }
    let (Some(clean), Some(dirty)) = (
        costly("inlines.o", "static_inlines"),
        costly("fences.o", "standin_range_start"),
    ) else {
        report.skip("T3: objdump does not run here");
        return;
    };
    let mut target = Target::new(
        "T3",
        "RMW, fences, TLS in the inlines",
        clean as f64,
        Goal::Exactly(0.0),
    )
    .unit("instructions");
    if dirty == 0 {
        target.void = Some("the search finds none in the stand-in either".into());
    }
    report.target(target);
}

/// Instructions of a function that lock, fence, or touch thread-local storage.
fn costly(object: &str, function: &str) -> Option<usize> {
    let path = std::path::Path::new(env!("BENCH_OUT")).join(object);
    let output = Command::new("objdump")
        .args(["-dr", "--no-show-raw-insn"])
        .arg(path)
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let body = text.split(&format!("<{function}>:\n")).nth(1)?;
    let body = body.split("\n\n").next()?;
    let bad = [
        "lock ",
        "xchg",
        "mfence",
        "lfence",
        "sfence",
        "%fs:",
        "tls_get_addr",
        "TLSDESC",
        "TPOFF",
    ];
    Some(
        body.lines()
            .filter(|line| bad.iter().any(|bad| line.contains(bad)))
            .count(),
    )
}

/// One exported call with one callback.
fn young(report: &mut Report, settings: &Settings, subjects: &Subjects) {
    let all = [
        subjects.stand_in,
        subjects.library,
        subjects.shared,
        subjects.floor,
    ]
    .map(|s| (s.name, s.mm(1)));
    let candidates = all
        .iter()
        .map(|(name, mm)| Candidate::new(*name, |n| mm.young(n)))
        .collect();
    report.add(race(
        "test_young, 1 notifier: one walk",
        settings,
        candidates,
    ));
}

fn crowds(report: &mut Report, settings: &Settings, subjects: &Subjects) {
    let counts: &[u64] = if settings.quick {
        &[1, 100, 10_000]
    } else {
        &[1, 10, 100, 1_000, 10_000]
    };
    let mut growth = Vec::new();
    for &count in counts {
        let all = [subjects.stand_in, subjects.library, subjects.shared]
            .map(|s| (s.name, s.crowd(count)));
        let candidates = all
            .iter()
            .map(|(name, crowd)| Candidate::new(*name, |n| crowd.pairs(n)))
            .collect();
        report.add(race(
            format!("Pair, 1 notifier, on one of {count} mms"),
            settings,
            candidates,
        ));
        growth.push((count as f64, report.races.len() - 1));
    }
    plot(
        report,
        "mms",
        "Pair on a random mm with 1 notifier",
        "mms",
        &growth,
    );
}
