// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes a program on which model and library differ as short as can be, and tells the story.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::check::model_steps;
use crate::isolate::{End, Shared, spawn};
use crate::library::{self, Difference, Mode};

/// How long one program of a few lines may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The difference that a program makes in a process of its own; `None` too if it is no program.
pub fn difference(lines: &[String], shared: &Shared) -> Option<Difference> {
    let steps = model_steps(lines).ok()?;
    let end = spawn(true, || {
        for mode in [Mode::Fast, Mode::Threads] {
            let verdict = library::run(lines, steps.clone(), mode);
            if let Some(difference) = verdict.difference {
                shared.put_difference(&difference);
                return 1;
            }
            if verdict.tainted {
                break;
            }
        }
        0
    });
    let got = match end.wait(PATIENCE) {
        End::Exit(0) => return None,
        End::Exit(1) => return shared.get_difference(),
        End::Exit(status) => format!("exit {status}\n"),
        End::Badly(how) => format!("{how}\n"),
    };
    Some(Difference {
        step: steps.len(),
        expected: "all is well\n".to_owned(),
        got,
    })
}

/// Drops ever smaller pieces while a difference remains.
pub fn shrink(lines: &[String], shared: &Shared, limit: Duration) -> Vec<String> {
    let begin = Instant::now();
    let mut program = lines.to_vec();
    let mut size = program.len() / 2;
    while size > 0 && begin.elapsed() < limit {
        let (mut at, mut dropped) = (0, false);
        while at < program.len() && begin.elapsed() < limit {
            let mut fewer = program.clone();
            fewer.drain(at..(at + size).min(program.len()));
            if difference(&fewer, shared).is_some() {
                program = fewer;
                dropped = true;
            } else {
                at += size;
            }
        }
        if size > 1 || !dropped {
            size /= 2;
        }
    }
    program
}

/// The program, then both traces: what is common, `-` what the contract says, `+` what the library did.
pub fn story(lines: &[String], difference: &Difference) -> String {
    let mut text = String::new();
    for line in lines {
        writeln!(text, "{line}").expect("memory");
    }
    text += "# --- the contract's trace (-) and the library's (+); replay: model FILE, or mnrun -c <FILE\n";
    let steps = model_steps(lines).unwrap_or_default();
    for step in steps.iter().take(difference.step) {
        for line in step.text.lines() {
            writeln!(text, "#   {line}").expect("memory");
        }
    }
    for (sign, trace) in [('-', &difference.expected), ('+', &difference.got)] {
        for line in trace.lines() {
            writeln!(text, "# {sign} {line}").expect("memory");
        }
    }
    text
}

/// Shrinks a program that makes a difference, and tells the story. `None`: it makes none in a process of its own.
pub fn minimal(lines: &[String], shared: &Shared, limit: Duration) -> Option<String> {
    difference(lines, shared)?;
    let short = shrink(lines, shared, limit);
    let made = difference(&short, shared)?;
    Some(story(&short, &made))
}
