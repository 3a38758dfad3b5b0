// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory for one object of each kind, as c/memory.c counts it.

use std::path::Path;
use std::process::Command;

use crate::plot::{Plot, Series};
use crate::report::{Goal, Report, Target};

/// Kind, the count that the target is for, bytes.
const GOALS: [(&str, f64, f64); 3] = [
    ("interval", 1e6, 48.0),
    ("notifier", 64.0, 0.0),
    ("thread", 256.0, 128.0),
];

pub(crate) fn measure(report: &mut Report) {
    let output = Command::new(Path::new(env!("BENCH_OUT")).join("memory"))
        .output()
        .expect("memory runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "memory: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut series: Vec<Series> = Vec::new();
    println!("\nMemory of the library per object, bytes");
    for line in text.lines() {
        println!("  {line}");
        let mut words = line.split_whitespace();
        let (Some(kind), Some(Ok(count)), Some(Ok(bytes))) = (
            words.next(),
            words.next().map(str::parse::<f64>),
            words.next().map(str::parse::<f64>),
        ) else {
            panic!("memory says {line}");
        };
        match series.iter_mut().find(|series| series.name == kind) {
            Some(series) => series.points.push((count, bytes)),
            None => series.push(Series {
                name: kind.into(),
                points: vec![(count, bytes)],
            }),
        }
        for (_, _, goal) in GOALS
            .iter()
            .filter(|(of, at, _)| *of == kind && *at == count)
        {
            report.target(
                Target::new(
                    "T12",
                    format!("heap per {kind} of {count}"),
                    bytes,
                    Goal::Exactly(*goal),
                )
                .unit("bytes"),
            );
        }
    }
    report.plots.push(Plot {
        file: "memory",
        title: "Memory of the library per object (nothing drawn: none)".into(),
        x: "objects",
        y: "bytes per object",
        series,
    });
}
