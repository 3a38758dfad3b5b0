// SPDX-License-Identifier: MIT OR Apache-2.0
//! System calls with live events on and off, and with UCX's memory hooks, which cannot be taken out again: so there are
//! processes (c/live.c) that are told what to do. Off, on and watched are states of one process; what is compared across processes
//! has a second process without hooks beside it, which shows what that comparison is worth.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::harness::{Candidate, Race, Settings, race};
use crate::report::{Goal, Report, Target};

const OFF: &str = "live off";
const ON: &str = "live on";
const WATCHED: &str = "live on, memory watched";
const NET: &str = "live and its net";
const NETTED: &str = "live and its net, memory watched";
const MANY_OFF: &str = "live off, 1e5 other ranges";
const MANY: &str = "live on, 1e5 other ranges";
const OTHER: &str = "live off, another process";
const UCX: &str = "UCX's hooks";

/// A call of c/live.c: its name there, its title, and the limits of `ON`, `MANY` and `WATCHED` to the same process, off.
struct Call {
    name: &'static str,
    title: &'static str,
    on: f64,
    many: f64,
    watched: Option<f64>,
}

/// An unrelated call may not pay at all; what a second process like the first shows is 2 to 3 %.
const UNRELATED: f64 = 1.03;

const fn unrelated(name: &'static str, title: &'static str) -> Call {
    Call {
        name,
        title,
        on: UNRELATED,
        many: UNRELATED,
        watched: None,
    }
}

const fn memory(name: &'static str, title: &'static str, on: f64, watched: f64) -> Call {
    Call {
        name,
        title,
        on,
        many: on,
        watched: Some(watched),
    }
}

const CALLS: [Call; 9] = [
    unrelated("getppid", "getppid"),
    unrelated("read", "read of 1 byte"),
    memory("munmap", "munmap of nothing", 1.3, 5.0),
    memory("pair", "mmap and munmap, 64 KiB", 1.1, 1.5),
    memory("touched", "mmap, touch 16 pages, munmap", 1.1, 1.25),
    memory("mprotect", "mprotect, twice", 1.1, 2.0),
    memory("dontneed", "touch, MADV_DONTNEED", 1.1, 1.5),
    memory("malloc", "malloc and free of 1 MiB", 1.1, 1.25),
    Call {
        name: "thread",
        title: "thread create and join",
        on: 1.1,
        many: 1.1,
        watched: None,
    },
];

/// A process of c/live.c.
struct Helper {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Helper {
    fn start(argument: Option<&str>) -> RefCell<Self> {
        let mut command = Command::new(Path::new(env!("BENCH_OUT")).join("live"));
        command.args(argument);
        if let Some(directory) = argument.and_then(|path| Path::new(path).parent()) {
            command.env("LD_LIBRARY_PATH", directory);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("c/live.c runs");
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        RefCell::new(Self {
            child,
            input,
            output,
        })
    }

    /// How many nanoseconds `count` calls took; NaN if the process has ended, of which it has told the reason.
    fn ask(&mut self, state: &str, call: &str, count: u64) -> f64 {
        let mut line = String::new();
        let _ = writeln!(self.input, "{state} {call} {count}");
        let _ = self.output.read_line(&mut line);
        line.trim().parse().unwrap_or(f64::NAN)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processes that the candidates are in.
struct Helpers {
    main: RefCell<Helper>,
    other: RefCell<Helper>,
    many: RefCell<Helper>,
    /// None: there can be no net here.
    net: Option<RefCell<Helper>>,
    ucx: Option<RefCell<Helper>>,
}

fn candidate<'a>(
    name: &str,
    helper: &'a RefCell<Helper>,
    state: &'static str,
    call: &Call,
) -> Candidate<'a> {
    let call = call.name;
    Candidate::timed(name, move |n| helper.borrow_mut().ask(state, call, n))
}

fn one(report: &mut Report, settings: &Settings, helpers: &Helpers, call: &Call) {
    let mut candidates = vec![
        candidate(OFF, &helpers.main, "off", call),
        candidate(ON, &helpers.main, "on", call),
        candidate(MANY_OFF, &helpers.many, "off", call),
        candidate(MANY, &helpers.many, "on", call),
        candidate(OTHER, &helpers.other, "off", call),
    ];
    if call.watched.is_some() {
        candidates.push(candidate(WATCHED, &helpers.main, "watched", call));
    }
    if let Some(net) = &helpers.net {
        candidates.push(candidate(NET, net, "net", call));
        if call.watched.is_some() {
            candidates.push(candidate(NETTED, net, "netted", call));
        }
    }
    if let Some(ucx) = &helpers.ucx {
        candidates.push(candidate(UCX, ucx, "off", call));
    }
    let race = race(call.title, settings, candidates);
    targets(report, &race, call);
    report.add(race);
}

fn targets(report: &mut Report, race: &Race, call: &Call) {
    let mut limit = |id, name: &str, to: &str, goal| {
        let what = format!("{}, {name}", call.title);
        let ratio = race.ratio(name, to);
        report.target(Target::new(id, what, ratio, Goal::AtMost(goal)));
    };
    let id = if call.on > UNRELATED { "L2" } else { "L1" };
    limit(id, ON, OFF, call.on);
    limit(id, MANY, MANY_OFF, call.many);
    if let Some(goal) = call.watched {
        limit("L3", WATCHED, OFF, goal);
    }
    if call.watched.is_some() && race.row(UCX).is_some() {
        let what = format!("{}, live on to {UCX}", call.title);
        report.target(Target::new(
            "L4",
            what,
            race.ratio(ON, UCX),
            Goal::AtMost(1.05),
        ));
    }
}

/// Of the unpacked package that run.sh names.
fn libucs() -> Option<String> {
    let package = std::env::var("UCX").ok()?;
    let path = Path::new(&package).join("usr/lib/x86_64-linux-gnu/libucs.so.0");
    path.exists().then(|| path.display().to_string())
}

pub(crate) fn measure(report: &mut Report, settings: &Settings) {
    let libucs = libucs();
    if libucs.is_none() {
        report.skip("UCX: the package libucx0 cannot be had here");
    }
    let net = Helper::start(None);
    let has_net = net.borrow_mut().ask("net", "getppid", 1).is_finite();
    if !has_net {
        report.skip("the net of live events: the kernel refuses a userfaultfd here");
    }
    let helpers = Helpers {
        net: has_net.then_some(net),
        main: Helper::start(None),
        other: Helper::start(None),
        many: Helper::start(Some("many")),
        ucx: libucs.map(|path| Helper::start(Some(&path))),
    };
    for call in &CALLS {
        one(report, settings, &helpers, call);
    }
}
