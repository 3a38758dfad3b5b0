// SPDX-License-Identifier: MIT OR Apache-2.0
//! What comes out: targets (`T5 N=1e4 k=0 ... ratio=0.17 target=0.18 PASS`), tables, JSON, plots, the measured part of
//! docs/performance.md.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::expected::{self, SLACK};
use crate::harness::Race;
use crate::plot::Plot;
use crate::runs;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// At most so much, of what does not depend on the machine's mood: no slack in the gate.
    Exactly(f64),
}

pub(crate) struct Target {
    pub(crate) id: &'static str,
    /// `N=1e4 k=0`
    pub(crate) what: String,
    /// `ratio`, `bytes`, ...
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
    /// Values of several runs, this one among them, best first; none, if there was one run.
    pub(crate) runs: Vec<f64>,
    pub(crate) goal: Goal,
    /// A reason to fail whatever the value.
    pub(crate) void: Option<String>,
    pub(crate) note: String,
}

impl Target {
    pub(crate) fn new(id: &'static str, what: impl Into<String>, value: f64, goal: Goal) -> Self {
        Self {
            id,
            what: what.into(),
            unit: "ratio",
            value,
            runs: Vec::new(),
            goal,
            void: None,
            note: String::new(),
        }
    }

    pub(crate) fn unit(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// With `slack` 1.5, a ratio may be half as bad again. NaN, a candidate that did not run, fails.
    pub(crate) fn passes(&self, slack: f64) -> bool {
        self.void.is_none()
            && match self.goal {
                Goal::AtMost(goal) => self.value <= goal * slack,
                Goal::AtLeast(goal) => self.value >= goal / slack,
                Goal::Exactly(goal) => self.value <= goal,
            }
    }

    /// Is `value` at most half as bad again as `figure`?
    fn is_like(&self, figure: f64) -> bool {
        match self.goal {
            Goal::AtMost(_) => self.value <= figure * SLACK,
            Goal::AtLeast(_) => self.value >= figure / SLACK,
            Goal::Exactly(_) => self.value <= figure * 1.05,
        }
    }

    /// PASS; MISS, for a reason that is known; or FAIL.
    fn verdict(&self, slack: f64) -> Verdict {
        let expected = expected::of(self.id, &self.what);
        match expected {
            _ if self.passes(1.0) => Verdict::Pass,
            Some(expected) if self.void.is_none() && self.is_like(expected.figure) => Verdict::Miss,
            Some(_) => Verdict::Fail,
            None if self.passes(slack) => Verdict::Pass,
            None => Verdict::Fail,
        }
    }

    fn limit(&self) -> f64 {
        match self.goal {
            Goal::AtMost(goal) | Goal::AtLeast(goal) | Goal::Exactly(goal) => goal,
        }
    }

    /// Reasons to fail, reasons to miss, and remarks.
    fn notes(&self) -> String {
        let remark = (!self.note.is_empty()).then(|| self.note.clone());
        let expected = expected::of(self.id, &self.what).filter(|_| !self.passes(1.0));
        let expected = expected.map(|e| match self.runs.as_slice() {
            [] => format!(
                "explained: {}; {} recorded, {}",
                e.reason,
                number(e.figure),
                e.runs
            ),
            _ => format!("explained: {}", e.reason),
        });
        let runs = spread(&self.runs);
        let notes = self.void.clone().into_iter();
        let notes = notes.chain(expected).chain(runs).chain(remark);
        notes.map(|note| format!(" ({note})")).collect()
    }

    fn line(&self, slack: f64) -> String {
        let mut line = format!(
            "{} {} {}={} ",
            self.id,
            self.what,
            self.unit,
            number(self.value)
        );
        let _ = write!(
            line,
            "target{}={} {}",
            if matches!(self.goal, Goal::AtLeast(_)) {
                ">"
            } else {
                ""
            },
            number(self.limit()),
            self.verdict(slack).name()
        );
        line + &self.notes()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Verdict {
    Pass,
    Miss,
    Fail,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Miss => "MISS",
            Self::Fail => "FAIL",
        }
    }
}

/// From where to where the values of several runs are.
pub(crate) fn spread(runs: &[f64]) -> Option<String> {
    let (best, worst) = (number(*runs.first()?), number(*runs.last()?));
    Some(format!("{best} to {worst} in {} runs", runs.len()))
}

/// Three digits.
pub(crate) fn number(value: f64) -> String {
    if value.is_nan() {
        return "none".into();
    }
    match value.abs() {
        ..0.0005 => "0".into(),
        0.0005..0.0995 => format!("{value:.3}"),
        0.0995..9.95 => format!("{value:.2}"),
        9.95..99.5 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// `1e4`
pub(crate) fn power(n: u64) -> String {
    let exponent = n.ilog10();
    if n == 10u64.pow(exponent) {
        format!("1e{exponent}")
    } else {
        n.to_string()
    }
}

#[derive(Default)]
pub(crate) struct Report {
    pub(crate) machine: Vec<(String, String)>,
    pub(crate) races: Vec<Race>,
    pub(crate) targets: Vec<Target>,
    pub(crate) plots: Vec<Plot>,
    /// What was not measured, and why.
    pub(crate) skipped: Vec<String>,
}

impl Report {
    /// Prints a race's table and keeps it.
    pub(crate) fn add(&mut self, race: Race) -> &Race {
        println!("\n{}", text(&race));
        self.races.push(race);
        self.races.last().expect("just pushed")
    }

    /// Something about the machine.
    pub(crate) fn fact(&mut self, key: &str, value: &str) {
        println!("{key}: {value}");
        self.machine.push((key.into(), value.into()));
    }

    pub(crate) fn target(&mut self, target: Target) {
        println!("{}", target.line(1.0));
        self.targets.push(target);
    }

    pub(crate) fn skip(&mut self, what: impl Into<String>) {
        let what = what.into();
        println!("SKIP {what}");
        self.skipped.push(what);
    }

    /// The parts of the targets that fail.
    pub(crate) fn failed_parts(&self, slack: f64) -> Vec<&'static str> {
        let targets = self.targets.iter();
        let failed = targets.filter(|target| target.verdict(slack) == Verdict::Fail);
        let mut parts: Vec<_> = failed.map(|target| runs::part(target.id)).collect();
        parts.sort_unstable();
        parts.dedup();
        parts
    }

    /// All targets again, together. Says how many failed.
    pub(crate) fn verdict(&self, slack: f64) -> usize {
        println!(
            "\nTargets{}",
            if slack > 1.0 {
                format!(", ratios with a slack of {slack}")
            } else {
                String::new()
            }
        );
        for target in &self.targets {
            println!("{}", target.line(slack));
        }
        let count = |verdict| {
            let targets = self.targets.iter();
            targets.filter(|t| t.verdict(slack) == verdict).count()
        };
        let failed = count(Verdict::Fail);
        println!(
            "{} passed, {} missed for a reason that is explained, {failed} failed, {} skipped",
            count(Verdict::Pass),
            count(Verdict::Miss),
            self.skipped.len()
        );
        failed
    }

    pub(crate) fn write(&self, directory: &Path) -> std::io::Result<()> {
        fs::create_dir_all(directory)?;
        fs::write(directory.join("bench.json"), self.json())?;
        self.write_plots(directory)
    }

    fn write_plots(&self, directory: &Path) -> std::io::Result<()> {
        fs::create_dir_all(directory)?;
        for plot in &self.plots {
            fs::write(directory.join(format!("{}.svg", plot.file)), plot.svg())?;
        }
        Ok(())
    }

    fn json(&self) -> String {
        let machine = self
            .machine
            .iter()
            .map(|(key, value)| format!("{}: {}", quote(key), quote(value)));
        let races = self.races.iter().map(|race| {
            let rows = race.rows.iter().map(|row| {
                let samples = row.samples.iter().map(|&sample| decimal(sample));
                format!(
                    "{{\"name\": {}, \"median\": {}, \"p10\": {}, \"p90\": {}, \"ratio\": {}, \"samples\": [{}]}}",
                    quote(&row.name),
                    decimal(row.median()),
                    decimal(row.p10()),
                    decimal(row.p90()),
                    decimal(race.ratio(&row.name, &race.rows[0].name)),
                    join(samples, ", ")
                )
            });
            format!("{{\"title\": {}, \"rows\": [\n    {}]}}", quote(&race.title), join(rows, ",\n    "))
        });
        let targets = self.targets.iter().map(|target| {
            format!(
                "{{\"id\": {}, \"what\": {}, \"{}\": {}, \"target\": {}, \"pass\": {}, \"line\": {}}}",
                quote(target.id),
                quote(&target.what),
                target.unit,
                decimal(target.value),
                decimal(target.limit()),
                target.passes(1.0),
                quote(&target.line(1.0))
            )
        });
        format!(
            "{{\"unit\": \"ns\",\n\"machine\": {{{}}},\n\"targets\": [\n  {}],\n\"skipped\": [{}],\n\"races\": [\n  {}]}}\n",
            join(machine, ", "),
            join(targets, ",\n  "),
            join(self.skipped.iter().map(|what| quote(what)), ", "),
            join(races, ",\n  ")
        )
    }

    /// Rewrites what is between the markers of the document, and the plots beside it.
    pub(crate) fn document(&self, path: &Path) -> std::io::Result<()> {
        const BEGIN: &str = "<!-- bench: begin -->\n";
        const END: &str = "<!-- bench: end -->\n";
        let old = fs::read_to_string(path)?;
        let (Some(begin), Some(end)) = (old.find(BEGIN), old.find(END)) else {
            return Err(std::io::Error::other(format!(
                "{}: no markers",
                path.display()
            )));
        };
        let new = format!(
            "{}{}{}",
            &old[..begin + BEGIN.len()],
            self.markdown(),
            &old[end..]
        );
        fs::write(path, new)?;
        self.write_plots(&path.with_extension(""))
    }

    fn markdown(&self) -> String {
        let mut out = String::from("\n## The run\n\n");
        for (key, value) in &self.machine {
            let _ = writeln!(out, "* {key}: {value}");
        }
        for what in &self.skipped {
            let _ = writeln!(out, "* not measured: {what}");
        }
        out.push_str(
            "\n## Targets\n\n| | what | unit | measured | target | |\n|---|---|---|---|---|---|\n",
        );
        for target in &self.targets {
            let goal = if matches!(target.goal, Goal::AtLeast(_)) {
                "at least "
            } else {
                ""
            };
            let verdict = target.verdict(1.0).name();
            let notes = target.notes();
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {goal}{} | {verdict}{notes} |",
                target.id,
                target.what,
                target.unit,
                number(target.value),
                number(target.limit())
            );
        }
        out.push_str("\n## Growth\n\n");
        for plot in &self.plots {
            let _ = writeln!(out, "![{}](performance/{}.svg)\n", plot.title, plot.file);
        }
        out.push_str("## Tables\n\nNanoseconds per operation, over the rounds; ratio: the median of the rounds' ratios to the first line.\n");
        for race in &self.races {
            let _ = writeln!(
                out,
                "\n### {}\n\n| | p10 | median | p90 | ratio |\n|---|---|---|---|---|",
                race.title
            );
            for row in &race.rows {
                let _ = writeln!(
                    out,
                    "| {} | {} | {} | {} | {} |",
                    row.name,
                    number(row.p10()),
                    number(row.median()),
                    number(row.p90()),
                    number(race.ratio(&row.name, &race.rows[0].name))
                );
            }
        }
        out.push('\n');
        out
    }
}

fn text(race: &Race) -> String {
    let mut out = format!(
        "{:<44}{:>9}{:>9}{:>9}{:>8}\n",
        race.title, "p10", "median", "p90", "ratio"
    );
    for row in &race.rows {
        let _ = writeln!(
            out,
            "  {:<42}{:>9}{:>9}{:>9}{:>8}",
            row.name,
            number(row.p10()),
            number(row.median()),
            number(row.p90()),
            number(race.ratio(&row.name, &race.rows[0].name))
        );
    }
    out
}

fn join(parts: impl Iterator<Item = String>, between: &str) -> String {
    parts.collect::<Vec<_>>().join(between)
}

fn decimal(value: f64) -> String {
    if value.is_finite() {
        format!("{value:.4}")
    } else {
        "null".into()
    }
}

fn quote(text: &str) -> String {
    let escaped: String = text
        .chars()
        .flat_map(|c| match c {
            '"' | '\\' => vec!['\\', c],
            c if c < ' ' => vec![' '],
            c => vec![c],
        })
        .collect();
    format!("\"{escaped}\"")
}
