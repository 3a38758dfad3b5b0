// SPDX-License-Identifier: MIT OR Apache-2.0
//! Grace periods: waiting for one, with few and many attached threads, and putting a notifier, which has to wait for one
//! without the caller noticing.

use std::process::Command;
use std::sync::{Arc, Barrier, mpsc};
use std::thread::{self, JoinHandle};

use crate::harness::{Candidate, Settings, race, thread_time};
use crate::limits::{has_membarrier, membarrier};
use crate::pairs::plot;
use crate::report::{Goal, Report, Target};
use crate::subject::{SHARED, STATIC, Subjects};
use crate::threads::{self, Part, beside, cpus};
use crate::urcu::{Burst, Flavour};

const MEMBARRIER: &str = "membarrier alone";
const MEMB: &str = "liburcu memb";

/// Threads that have had a read section of everybody, and sleep until it is over.
struct Sleepers {
    threads: Vec<JoinHandle<()>>,
    wake: Vec<mpsc::Sender<()>>,
}

impl Sleepers {
    fn new() -> Self {
        Self {
            threads: Vec::new(),
            wake: Vec::new(),
        }
    }

    fn grow_to(&mut self, count: usize, subjects: &Subjects) -> Result<(), String> {
        let libraries = [subjects.library, subjects.shared];
        let mms = Arc::new(libraries.map(|library| library.mm(1)));
        while self.threads.len() < count {
            let (wake, sleep) = mpsc::channel();
            let attached = Arc::new(Barrier::new(2));
            let (all_attached, mms) = (Arc::clone(&attached), Arc::clone(&mms));
            let work = move || {
                for (library, mm) in libraries.iter().zip(mms.iter()) {
                    library.section_empty(1);
                    mm.pairs(1, 2, 1);
                }
                for flavour in Flavour::all() {
                    flavour.attach();
                    flavour.empty(1);
                }
                drop(mms);
                all_attached.wait();
                let _ = sleep.recv();
                for flavour in Flavour::all() {
                    flavour.detach();
                }
            };
            let thread = thread::Builder::new()
                .stack_size(64 << 10)
                .spawn(work)
                .map_err(|error| error.to_string())?;
            attached.wait();
            self.threads.push(thread);
            self.wake.push(wake);
        }
        Ok(())
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        self.wake.clear();
        for thread in self.threads.drain(..) {
            thread.join().expect("a sleeper does not panic");
        }
    }
}

fn waits<'a>(subjects: &Subjects) -> Vec<Candidate<'a>> {
    let mut candidates = Vec::new();
    if has_membarrier() {
        candidates.push(Candidate::wall(MEMBARRIER, membarrier));
    }
    for library in [subjects.library, subjects.shared] {
        candidates.push(Candidate::wall(library.name, move |n| {
            library.synchronize(n)
        }));
        candidates.push(Candidate::wall(
            format!("{}, synchronize_rcu", library.name),
            move |n| library.synchronize_rcu(n),
        ));
    }
    for flavour in Flavour::all() {
        candidates.push(Candidate::wall(flavour.name(), move |n| {
            flavour.synchronize(n)
        }));
    }
    candidates
}

pub(crate) fn measure(
    report: &mut Report,
    settings: &Settings,
    subjects: &Subjects,
    workers: &Workers,
) {
    for flavour in Flavour::all() {
        flavour.attach();
    }
    growth(report, settings, subjects);
    beside_readers(report, settings, subjects);
    bursts(report, settings, subjects, workers);
    system_calls(report);
    for flavour in Flavour::all() {
        flavour.detach();
    }
}

fn growth(report: &mut Report, settings: &Settings, subjects: &Subjects) {
    let counts: &[usize] = if settings.quick {
        &[1, 16, 256]
    } else {
        &[1, 4, 16, 64, 256, 1024, 4096]
    };
    let mut sleepers = Sleepers::new();
    let mut growth = Vec::new();
    for &count in counts {
        if let Err(error) = sleepers.grow_to(count, subjects) {
            report.skip(format!("{count} threads: {error}"));
            break;
        }
        let race = race(
            format!("Grace period, {count} attached threads asleep"),
            settings,
            waits(subjects),
        );
        if count == 256 {
            let limit = |wait: f64, membarrier: f64| wait / (1.1 * membarrier + 0.3 * 256.0);
            for name in [
                STATIC.to_string(),
                SHARED.to_string(),
                format!("{STATIC}, synchronize_rcu"),
            ] {
                let what = format!("256 threads, {name} to 1.1 membarriers + 0.3 ns each");
                let ratio = race.compare(&name, MEMBARRIER, limit);
                report.target(Target::new("T9", what, ratio, Goal::AtMost(1.0)));
            }
        }
        report.add(race);
        growth.push((count as f64, report.races.len() - 1));
    }
    plot(
        report,
        "threads",
        "Grace period, attached threads asleep",
        "attached threads",
        &growth,
    );
}

fn beside_readers(report: &mut Report, settings: &Settings, subjects: &Subjects) {
    if cpus().len() < 2 {
        report.skip("T9 beside a reader: one CPU");
        return;
    }
    let (library, shared) = (subjects.library, subjects.shared);
    let mut candidates: Vec<Candidate<'_>> = [library, shared]
        .map(|library| {
            Candidate::timed(library.name, move |n| {
                let mm = library.mm(1);
                beside(|| library.synchronize(n), |chunk| mm.pairs(1, 2, chunk)).0
            })
        })
        .into();
    for flavour in Flavour::all() {
        candidates.push(Candidate::timed(flavour.name(), move |n| {
            let mut part = Part::new(move || flavour.attach(), move || flavour.detach());
            let reader = move |chunk| {
                part.begin();
                flavour.call(chunk);
            };
            beside(|| flavour.synchronize(n), reader).0
        }));
    }
    let race = race(
        "Grace period, a reader running beside",
        settings,
        candidates,
    );
    if race.row(MEMB).is_some() {
        let ratio = race.ratio(STATIC, MEMB);
        report.target(Target::new(
            "T9",
            format!("beside a reader, {STATIC} to {MEMB}"),
            ratio,
            Goal::AtMost(0.5),
        ));
    }
    report.add(race);
}

/// The threads that run callbacks, the library's and liburcu's.
pub(crate) struct Workers(Vec<libc::pid_t>);

/// Starts them, while they may still run on any CPU: a thread that a pinned one starts is pinned as well.
pub(crate) fn start_workers(subjects: &Subjects) -> Workers {
    let before = threads::all();
    for library in [subjects.library, subjects.shared] {
        let mut burst = library.burst(1);
        burst.puts();
        burst.settle();
    }
    if !Flavour::all().is_empty() {
        let mut burst = Burst::new(1);
        burst.call();
        burst.settle();
    }
    let mut workers = threads::all();
    workers.retain(|thread| !before.contains(thread));
    Workers(workers)
}

const BURST: u64 = 1000;

/// Who runs the callbacks is woken once in a burst. On an idle CPU of a virtual machine that takes as long as half of the puts,
/// and where the kernel puts a thread is luck. So it is measured for both places.
fn bursts(report: &mut Report, settings: &Settings, subjects: &Subjects, workers: &Workers) {
    for (i, place) in ["on the same CPU", "on another CPU"]
        .into_iter()
        .enumerate()
    {
        match cpus().get(i..=i) {
            Some(cpu) => {
                threads::place(&workers.0, cpu);
                bursts_on(report, settings, subjects, place);
            }
            None => report.skip("T10 with workers on another CPU: one CPU"),
        }
    }
    threads::place(&workers.0, cpus());
}

fn bursts_on(report: &mut Report, settings: &Settings, subjects: &Subjects, place: &str) {
    let mut candidates = Vec::new();
    for library in [subjects.library, subjects.shared] {
        let mut burst = library.burst(BURST);
        let put = move |_| {
            // To warm up: the mms and their notifiers are more than what others leave in the caches.
            burst.puts();
            burst.settle();
            let start = thread_time();
            burst.puts();
            let took = thread_time() - start;
            burst.settle();
            took
        };
        candidates.push(Candidate::timed(library.name, put).of(BURST));
    }
    if !Flavour::all().is_empty() {
        let mut burst = Burst::new(BURST as usize);
        let call = move |_| {
            burst.call();
            burst.settle();
            let start = thread_time();
            burst.call();
            let took = thread_time() - start;
            burst.settle();
            took
        };
        candidates.push(Candidate::timed(MEMB, call).of(BURST));
    }
    let title = format!("Put, in a burst of 1000, and call_rcu; workers {place}");
    let race = race(title, settings, candidates);
    if race.row(MEMB).is_some() {
        for name in [STATIC, SHARED] {
            let ratio = race.ratio(name, MEMB);
            report.target(Target::new(
                "T10",
                format!("put, workers {place}, {name} to {MEMB}'s call_rcu"),
                ratio,
                Goal::AtMost(0.5),
            ));
        }
    }
    report.add(race);
}

/// System calls of the putting thread in a burst, seen by strace.
fn system_calls(report: &mut Report) {
    let program = std::path::Path::new(env!("BENCH_OUT")).join("burst");
    let log =
        std::env::temp_dir().join(format!("mmu-notifier-bench-{}.strace", std::process::id()));
    let status = Command::new("strace")
        .args(["-f", "-o"])
        .arg(&log)
        .arg(program)
        .arg(BURST.to_string())
        .status();
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    let _ = std::fs::remove_file(&log);
    if !status.is_ok_and(|status| status.success()) {
        report.skip("T10: strace does not run here");
        return;
    }
    let thread = |line: &str| line.split_whitespace().next().map(str::to_string);
    let mut lines = text.lines().skip_while(|line| !line.contains("\"begin\""));
    let caller = lines.next().and_then(thread);
    let inside: Vec<&str> = lines
        .take_while(|line| !line.contains("\"ended\""))
        .collect();
    let calls = inside.iter().filter(|line| thread(line) == caller).count();
    let mut target = Target::new(
        "T10",
        format!("system calls in a burst of {BURST} puts"),
        calls as f64,
        Goal::Exactly(1.0),
    )
    .unit("calls");
    if caller.is_none() {
        target.void = Some("strace did not see the burst".into());
    }
    report.target(target);
}
