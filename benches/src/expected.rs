// SPDX-License-Identifier: MIT OR Apache-2.0
//! Targets that are missed for a reason that is known and measured: explained.txt. Such a line says MISS, and FAIL where the
//! figure is half as bad again as the recorded one.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use crate::report::{Target, number, spread};

/// How much worse than a target, or than a recorded figure, a measurement may be before it fails.
pub(crate) const SLACK: f64 = 1.5;

const LIST: &str = include_str!("../explained.txt");

/// A line of the list: `ID | WHAT | FIGURE | RUNS | REASON`.
#[derive(Clone, Copy)]
pub(crate) struct Expectation {
    id: &'static str,
    what: &'static str,
    pub(crate) figure: f64,
    /// What it was in the runs that were recorded.
    pub(crate) runs: &'static str,
    pub(crate) reason: &'static str,
}

fn parse(line: &'static str) -> Option<Expectation> {
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let parts: Vec<&str> = line.split(" | ").collect();
    let &[id, what, figure, runs, reason] = parts.as_slice() else {
        panic!("explained.txt: {line}");
    };
    let figure = figure.parse().expect("a figure");
    Some(Expectation {
        id,
        what,
        figure,
        runs,
        reason,
    })
}

fn list() -> &'static [Expectation] {
    static ALL: OnceLock<Vec<Expectation>> = OnceLock::new();
    ALL.get_or_init(|| LIST.lines().filter_map(parse).collect())
}

/// What is expected of a target, if it is known to be missed.
pub(crate) fn of(id: &str, what: &str) -> Option<Expectation> {
    let mut found = list().iter().copied();
    found.find(|expectation| expectation.id == id && expectation.what == what)
}

/// Writes the list anew with what was measured: the worst but for a tenth, and from where to where the runs were. Lines of
/// what was not measured, or said nothing in such a run, stay.
pub(crate) fn record(path: &Path, targets: &[Target]) -> std::io::Result<()> {
    let mut out = String::new();
    for line in LIST.lines() {
        let new = parse(line).and_then(|old| {
            let mut same = targets.iter();
            let target = same.find(|target| target.id == old.id && target.what == old.what)?;
            let runs = &target.runs;
            let figure = *runs.get(((runs.len().checked_sub(1)?) as f64 * 0.9).round() as usize)?;
            figure.is_finite().then_some((old, figure, spread(runs)?))
        });
        let _ = match new {
            Some((old, figure, runs)) => {
                let figure = number(figure);
                writeln!(
                    out,
                    "{} | {} | {figure} | {runs} | {}",
                    old.id, old.what, old.reason
                )
            }
            None => writeln!(out, "{line}"),
        };
    }
    fs::write(path, out)
}
