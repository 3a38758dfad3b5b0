// SPDX-License-Identifier: MIT OR Apache-2.0
//! The library against an executable model of docs/spec/SPEC.md, section 3, with random programs.
//!
//! * [`contract`]: the model of the contract, from the text of the specification alone.
//! * [`language`], [`world`], [`runner`]: the programs' language (that of ../conformance), the runner's guards and bookkeeping,
//!   the trace.
//! * [`model`], [`library`]: the two that a runner can drive. [`baton`] keeps the threads of the latter in order.
//! * [`generate`]: random programs, from seeds or from a fuzzer's bytes.
//! * [`check`], [`isolate`], [`shrink`]: comparison, child processes, minimal programs.
//!
//! A fuzzer calls [`run_bytes`]; whoever has a program, [`run_program`].

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

pub mod baton;
pub mod check;
pub mod contract;
pub mod generate;
pub mod isolate;
pub mod language;
pub mod library;
pub mod model;
pub mod runner;
pub mod shrink;
pub mod world;

use isolate::{Server, Shared};
use library::{Mode, Verdict};

/// How long shrinking may take.
pub const SHRINKING: Duration = Duration::from_secs(60);

fn lines_of(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

fn minimal(text: &str) -> String {
    shrink::minimal(&lines_of(text), Shared::new(), SHRINKING).unwrap_or_default()
}

/// The server that shrinks: made before this process calls the library.
fn shrinker() -> &'static Mutex<Server> {
    static SERVER: OnceLock<Mutex<Server>> = OnceLock::new();
    SERVER.get_or_init(|| Mutex::new(Server::start(minimal)))
}

/// Panics with the shortest program that shows the difference, if there is one.
fn judge(lines: &[String], verdict: Verdict) {
    let Some(difference) = verdict.difference else {
        assert!(
            !verdict.tainted,
            "operations in progress are left:\n{}",
            lines.join("\n")
        );
        return;
    };
    let mut server = shrinker().lock().unwrap_or_else(PoisonError::into_inner);
    let short = server.ask(&lines.join("\n"));
    if short.is_empty() {
        panic!(
            "the library differs, after earlier programs only:\n{}",
            shrink::story(lines, &difference)
        );
    }
    panic!("the library differs from the contract:\n{short}");
}

/// Runs a program, given as text, on the model and on the library.
///
/// # Errors
/// It is no program.
///
/// # Panics
/// The library differs from the model.
pub fn run_program(text: &str) -> Result<(), language::Bad> {
    let lines = lines_of(text);
    let steps = check::model_steps(&lines)?;
    shrinker();
    judge(&lines, library::run(&lines, steps, Mode::Fast));
    Ok(())
}

/// Runs the program that the generator makes when these bytes are its choices. For fuzzers.
///
/// A program that ends in a BUG, or that leaves operations in progress for ever (it waits for itself), is left out: it
/// would end this process's usefulness.
///
/// # Panics
/// The library differs from the model.
pub fn run_bytes(data: &[u8]) {
    shrinker();
    let program = generate::of_bytes(data);
    if program.ends_cleanly {
        judge(
            &program.lines,
            library::run(&program.lines, program.steps, Mode::Fast),
        );
    }
}
