// SPDX-License-Identifier: MIT OR Apache-2.0
//! The benchmark: `make bench`. docs/performance.md says what it measures and what its lines mean.
//!
//! Arguments: `--quick` (a minute), `--gate` (fails if a ratio misses its target, or what explained.txt expects, by more than half), `--document` (rewrites the
//! measured part of docs/performance.md), `--only=PART` (limits, pairs, sections, intervals, index, grace, memory, live).

mod expected;
mod grace;
mod harness;
mod index;
mod intervals;
mod limits;
mod live;
mod memory;
mod pairs;
mod plot;
mod report;
mod sections;
mod subject;
mod threads;
mod urcu;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use expected::SLACK;
use harness::Settings;
use report::Report;
use subject::Subjects;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let only = arguments
        .iter()
        .find_map(|argument| argument.strip_prefix("--only="));
    let wanted = |part: &str| only.is_none_or(|only| only == part);
    let settings = Settings::new(has("--quick"));
    let start = Instant::now();
    threads::be_multi_threaded();
    let subjects = Subjects::load();
    grace::start_workers(&subjects);
    threads::pin(0);

    let mut report = Report::default();
    machine(&mut report);
    if wanted("limits") {
        report.add(limits::measure(&settings));
    }
    if wanted("pairs") {
        pairs::measure(&mut report, &settings, &subjects);
    }
    if wanted("sections") {
        sections::measure(&mut report, &settings, &subjects);
    }
    if wanted("intervals") {
        intervals::measure(&mut report, &settings, &subjects);
    }
    if wanted("index") {
        index::measure(&mut report, &settings);
    }
    if wanted("grace") {
        grace::measure(&mut report, &settings, &subjects);
    }
    if wanted("memory") {
        memory::measure(&mut report);
    }
    if wanted("live") {
        live::measure(&mut report, &settings);
    }
    fact(&mut report, "load average at the end", &load());
    fact(
        &mut report,
        "seconds",
        &format!("{:.0}", start.elapsed().as_secs_f64()),
    );

    let failed = report.verdict(if has("--gate") { SLACK } else { 1.0 });
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut written = report.write(&root.join("build/bench"));
    if has("--document") {
        written = written
            .and_then(|()| report.document(&root.join("docs/performance.md")))
            .and_then(|()| expected::record(&root.join("benches/explained.txt"), &report.targets));
    }
    if let Err(error) = written {
        eprintln!("bench: {error}");
        return ExitCode::FAILURE;
    }
    if has("--gate") && failed > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn fact(report: &mut Report, key: &str, value: &str) {
    println!("{key}: {value}");
    report.machine.push((key.into(), value.into()));
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
    fact(report, "CPU", &cpu);
    fact(
        report,
        "kernel",
        &file_line("/proc/sys/kernel/osrelease", ""),
    );
    fact(report, "rustc", &version("rustc", "-V"));
    fact(
        report,
        "C compiler",
        &version(&std::env::var("CC").unwrap_or("cc".into()), "--version"),
    );
    fact(report, "load average at the start", &load());
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
