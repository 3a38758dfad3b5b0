// SPDX-License-Identifier: MIT OR Apache-2.0
//! The benchmark: `make bench`. docs/performance.md says what it measures and what its lines mean.
//!
//! Arguments: `--quick` (a minute), `--gate` (fails if a ratio misses its target, or what explained.txt expects, by more than half),
//! `--document` (rewrites the measured part of docs/performance.md), `--only=PART[,PART ...]` ([`PARTS`]).

mod expected;
mod grace;
mod ground;
mod harness;
mod index;
mod intervals;
mod limits;
mod live;
mod memory;
mod pairs;
mod plot;
mod report;
mod runs;
mod sections;
mod subject;
mod threads;
mod urcu;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use expected::SLACK;
use grace::Workers;
use harness::Settings;
use report::Report;
use subject::Subjects;

/// What can be measured.
const PARTS: [&str; 8] = [
    "limits",
    "pairs",
    "sections",
    "intervals",
    "index",
    "grace",
    "memory",
    "live",
];

/// Runs that are recorded.
const RUNS: usize = 5;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let value = |name| {
        let mut all = arguments.iter();
        all.find_map(|argument| argument.strip_prefix(name))
    };
    let only = value("--only=");
    let mut named = only.into_iter().flat_map(|only| only.split(','));
    if let Some(unknown) = named.find(|part| !PARTS.contains(part)) {
        eprintln!(
            "bench: there is no part {unknown}; there are {}",
            PARTS.join(", ")
        );
        return ExitCode::FAILURE;
    }
    let wanted = |part: &str| only.is_none_or(|only| only.split(',').any(|one| one == part));
    let settings = Settings::new(has("--quick"));
    let start = Instant::now();
    threads::be_multi_threaded();
    let subjects = Subjects::load();
    let workers = grace::start_workers(&subjects);
    threads::pin(0);

    let mut report = Report::default();
    machine(&mut report);
    measure(&mut report, &settings, &subjects, &workers, wanted);
    report.fact("load average at the end", &load());
    report.fact("seconds", &format!("{:.0}", start.elapsed().as_secs_f64()));

    if let Some(path) = value("--targets=") {
        let written = runs::write(Path::new(path), &report.targets);
        return written.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let slack = if has("--gate") { SLACK } else { 1.0 };
    let repeated = if has("--document") {
        let parts: Vec<&str> = runs::JUDGED
            .into_iter()
            .filter(|part| wanted(part))
            .collect();
        runs::more(RUNS - 1, &parts, &mut report.targets)
    } else {
        let parts = report.failed_parts(slack);
        if has("--gate") && !parts.is_empty() {
            println!("\nWhat fails is measured twice more: the median counts");
            runs::more(2, &parts, &mut report.targets)
        } else {
            Ok(())
        }
    };
    runs::take_medians(&mut report.targets);
    let failed = report.verdict(slack);
    if let Err(error) = repeated.and_then(|()| write(&report, has("--document"))) {
        eprintln!("bench: {error}");
        return ExitCode::FAILURE;
    }
    if has("--gate") && failed > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn measure(
    report: &mut Report,
    settings: &Settings,
    subjects: &Subjects,
    workers: &Workers,
    wanted: impl Fn(&str) -> bool,
) {
    if wanted("limits") {
        report.add(limits::measure(settings));
    }
    if wanted("pairs") {
        pairs::measure(report, settings, subjects);
    }
    if wanted("sections") {
        sections::measure(report, settings, subjects);
    }
    if wanted("intervals") {
        intervals::measure(report, settings, subjects);
    }
    if wanted("index") {
        index::measure(report, settings);
    }
    if wanted("grace") {
        grace::measure(report, settings, subjects, workers);
    }
    if wanted("memory") {
        memory::measure(report);
    }
    if wanted("live") {
        live::measure(report, settings);
    }
}

/// The results; with `document` the committed ones as well.
fn write(report: &Report, document: bool) -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    report.write(&root.join("build/bench"))?;
    if document {
        report.document(&root.join("docs/performance.md"))?;
        expected::record(&root.join("benches/explained.txt"), &report.targets)?;
    }
    Ok(())
}

fn file_line(path: &str, starts: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text
        .lines()
        .find(|line| line.starts_with(starts))
        .unwrap_or_default();
    line.split(": ").last().unwrap_or_default().trim().into()
}

fn version(command: &str, argument: &str) -> String {
    let output = Command::new(command).arg(argument).output();
    let text = output
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    text.lines().next().unwrap_or("unknown").into()
}

fn load() -> String {
    let text = file_line("/proc/loadavg", "");
    text.split(' ').next().unwrap_or_default().into()
}

fn machine(report: &mut Report) {
    let cpu = format!(
        "{}, {} CPUs for this process",
        file_line("/proc/cpuinfo", "model name"),
        threads::cpus().len()
    );
    report.fact("CPU", &cpu);
    report.fact("kernel", &file_line("/proc/sys/kernel/osrelease", ""));
    report.fact("rustc", &version("rustc", "-V"));
    report.fact(
        "C compiler",
        &version(&std::env::var("CC").unwrap_or("cc".into()), "--version"),
    );
    report.fact("load average at the start", &load());
    for (missing, what) in [
        (cfg!(not(urcu)), "liburcu: the package cannot be had here"),
        (
            cfg!(not(kernel_tree)),
            "the kernel's tree: the package cannot be had here, so the stand-in is not validated",
        ),
    ] {
        if missing {
            report.skip(what);
        }
    }
    report.skip("the kernel's own implementation: the stand-in takes its place");
    if !limits::has_membarrier() {
        report.skip("membarrier: the kernel has none for us");
    }
}
