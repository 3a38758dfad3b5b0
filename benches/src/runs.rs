// SPDX-License-Identifier: MIT OR Apache-2.0
//! More runs of the benchmark, in processes of their own: where memory lies, and what neighbours do, differs from one to the next.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs, io};

use crate::report::{Goal, Target};
use crate::threads;

/// Parts that have targets.
pub(crate) const JUDGED: [&str; 6] = ["pairs", "sections", "intervals", "grace", "memory", "live"];

/// The part that a target is measured in.
pub(crate) fn part(id: &str) -> &'static str {
    match id {
        "T1" | "T2" | "T3" => "pairs",
        "T4" => "sections",
        "T5" | "T6" | "T7" | "T8" | "T11" => "intervals",
        "T9" | "T10" => "grace",
        "T12" => "memory",
        _ => "live",
    }
}

/// What another run is to write for the one that started it.
pub(crate) fn write(path: &Path, targets: &[Target]) -> io::Result<()> {
    let mut text = String::new();
    for target in targets {
        let _ = writeln!(text, "{}|{}|{}", target.id, target.what, worth(target));
    }
    fs::write(path, text)
}

/// The measured value; the worst there is, if it says nothing.
fn worth(target: &Target) -> f64 {
    if target.void.is_none() && !target.value.is_nan() {
        return target.value;
    }
    match target.goal {
        Goal::AtLeast(_) => f64::NEG_INFINITY,
        Goal::AtMost(_) | Goal::Exactly(_) => f64::INFINITY,
    }
}

/// Runs these parts `count` times more, and gives each target that they measure all of its values, best first.
pub(crate) fn more(count: usize, parts: &[&str], targets: &mut [Target]) -> io::Result<()> {
    let file = env::temp_dir().join(format!("mmu-notifier-bench-{}.targets", std::process::id()));
    // A process has the CPUs of who starts it.
    threads::place(&[0], threads::cpus());
    let quick = env::args().any(|argument| argument == "--quick");
    let mut values: HashMap<(String, String), Vec<f64>> = HashMap::new();
    for run in 1..=count {
        println!("one more run of {}, {run} of {count}", parts.join(", "));
        let status = Command::new(env::current_exe()?)
            .arg(format!("--only={}", parts.join(",")))
            .arg(format!("--targets={}", file.display()))
            .args(quick.then_some("--quick"))
            .stdout(Stdio::null())
            .status()?;
        if !status.success() {
            return Err(io::Error::other(format!("one more run: {status}")));
        }
        for line in fs::read_to_string(&file)?.lines() {
            let mut words = line.splitn(3, '|');
            let mut word = || words.next().unwrap_or_default().to_string();
            let (id, what, value) = (word(), word(), word());
            let value = value.parse().map_err(io::Error::other)?;
            values.entry((id, what)).or_default().push(value);
        }
    }
    fs::remove_file(&file)?;
    for target in targets {
        if let Some(more) = values.remove(&(target.id.to_string(), target.what.clone())) {
            target.runs = more;
            target.runs.push(worth(target));
            target.runs.sort_by(f64::total_cmp);
            if matches!(target.goal, Goal::AtLeast(_)) {
                target.runs.reverse();
            }
        }
    }
    Ok(())
}

/// Has each target that was measured more than once say its median.
pub(crate) fn take_medians(targets: &mut [Target]) {
    for target in targets {
        if let Some(&median) = target.runs.get(target.runs.len() / 2) {
            if median.is_finite() {
                target.void = None;
            }
            target.value = median;
        }
    }
}
