//! Replays of short traces.

use std::convert::Infallible;

use super::{Change, Error, Event, Moment, Paint, Place, Replay, Sink, Snapshot};

/// Writes down what it is told.
#[derive(Debug, Default)]
struct Diary {
    lines: Vec<String>,
    open: Vec<Change>,
    painted: u64,
}

impl Sink for Diary {
    type Range = Change;
    type Error = Infallible;

    fn created(&mut self, place: Place, parent: Option<u32>) -> Result<(), Infallible> {
        let from = parent.map_or(String::new(), |parent| format!(" from {parent}"));
        self.lines
            .push(format!("new {} pid {}{from}", place.space, place.pid));
        Ok(())
    }

    fn start(&mut self, change: &Change) -> Result<Change, Infallible> {
        let range = change.range;
        let kind = match range.event {
            Event::MMU_NOTIFY_UNMAP => "unmap",
            Event::MMU_NOTIFY_CLEAR => "clear",
            Event::MMU_NOTIFY_PROTECTION_VMA => "protect",
            Event::MMU_NOTIFY_PROTECTION_PAGE => "fork",
            other => panic!("no producer makes {other:?}"),
        };
        let space = change.place.space;
        self.lines
            .push(format!("{space} {kind} {:x}-{:x}", range.start, range.end));
        self.open.push(*change);
        Ok(*change)
    }

    fn end(&mut self, change: &Change, range: Change) -> Result<(), Infallible> {
        assert_eq!(*change, range, "an end has the token of its start");
        let at = self
            .open
            .iter()
            .position(|open| open == change)
            .expect("a start");
        self.open.remove(at);
        if !self.open.is_empty() {
            self.lines.push(format!("end {:x}", change.range.start));
        }
        Ok(())
    }

    fn released(&mut self, place: Place) -> Result<(), Infallible> {
        self.lines.push(format!("gone {}", place.space));
        Ok(())
    }

    fn painted(&mut self, _: Place, paint: &[Paint]) -> Result<(), Infallible> {
        self.painted += paint.len() as u64;
        Ok(())
    }
}

type Diaries<'a> = Replay<&'a [u8], Diary>;

fn replay(text: &[u8]) -> Diaries<'_> {
    let mut replay = Replay::new(text, Diary::default());
    match replay.run() {
        Ok(()) => {}
        Err(Error::Input(error)) => panic!("{error}"),
        Err(Error::Sink(never)) => match never {},
    }
    assert!(replay.sink.open.is_empty(), "every start has its end");
    replay
}

/// What a trace makes; all its lines can be read.
fn events(text: &str) -> Vec<String> {
    let replay = replay(text.as_bytes());
    assert_eq!(replay.summary().unread, [], "all lines can be read");
    replay.sink.lines
}

/// The mappings of an address space, `start-end rwx`.
fn mappings(text: &str, space: u32) -> Vec<String> {
    let replay = replay(text.as_bytes());
    let (_, found) = replay
        .spaces()
        .find(|(number, _)| *number == space)
        .expect("it lives");
    let bit =
        |protection: u8, bit: u8, letter: char| if protection & bit == 0 { '-' } else { letter };
    found
        .iter()
        .map(|(start, mapping)| {
            let p = mapping.protection;
            format!(
                "{start:x}-{:x} {}{}{}",
                mapping.end,
                bit(p, 1, 'r'),
                bit(p, 2, 'w'),
                bit(p, 4, 'x')
            )
        })
        .collect()
}

const RW: &str = "PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0";

// SPEC: 4.4
#[test]
fn each_call_makes_the_event_of_its_kind() {
    let calls = [
        ("munmap(0x10000, 5000) = 0", "0 unmap 10000-12000"),
        (
            &format!(
                "mmap(0x10000, 4096, {}) = 0x10000",
                RW.replace("MAP_PRIVATE", "MAP_PRIVATE|MAP_FIXED")
            ),
            "0 unmap 10000-11000",
        ),
        (
            "mprotect(0x10000, 4096, PROT_READ) = 0",
            "0 protect 10000-11000",
        ),
        (
            "pkey_mprotect(0x10000, 4096, PROT_READ, 1) = 0",
            "0 protect 10000-11000",
        ),
        (
            "madvise(0x10000, 4096, MADV_DONTNEED) = 0",
            "0 clear 10000-11000",
        ),
        (
            "madvise(0x10000, 4096, MADV_FREE) = 0",
            "0 clear 10000-11000",
        ),
        (
            "madvise(0x10000, 4096, 0x4 /* MADV_DONTNEED */) = 0",
            "0 clear 10000-11000",
        ),
        (
            "mremap(0x10000, 8192, 4096, 0) = 0x10000",
            "0 unmap 11000-12000",
        ),
        (
            "mremap(0x10000, 4096, 8192, MREMAP_MAYMOVE) = 0x90000",
            "0 unmap 10000-11000",
        ),
        (
            "mremap(0x10000, 4096, 4096, MREMAP_MAYMOVE|MREMAP_DONTUNMAP) = 0x90000",
            "0 unmap 10000-11000",
        ),
        ("mremap(0x10000, 0, 4096, MREMAP_MAYMOVE) = 0x90000", ""),
        (
            "mbind(0x10000, 4096, MPOL_BIND, [0x1], 64, MPOL_MF_MOVE) = 0",
            "0 clear 10000-11000",
        ),
        (
            "remap_file_pages(0x10000, 4096, 0, 1, 0) = 0",
            "0 unmap 10000-11000",
        ),
        ("mremap(0x10000, 4096, 8192, MREMAP_MAYMOVE) = 0x10000", ""),
        (&format!("mmap(NULL, 4096, {RW}) = 0x10000"), ""),
        (
            &format!(
                "mmap(0x10000, 4096, {}) = 0x10000",
                RW.replace("MAP_PRIVATE", "MAP_PRIVATE|MAP_FIXED_NOREPLACE")
            ),
            "",
        ),
        ("madvise(0x10000, 4096, MADV_HUGEPAGE) = 0", ""),
        ("msync(0x10000, 4096, MS_SYNC) = 0", ""),
        ("brk(0x10000) = 0x10000", ""),
    ];
    for (call, wanted) in calls {
        let events = events(call);
        assert_eq!(events.get(1).map_or("", String::as_str), wanted, "{call}");
        assert!(events.len() <= 2, "{call}: {events:?}");
    }
}

// SPEC: 4.4
#[test]
fn calls_that_fail() {
    let calls = [
        ("munmap(0x10001, 4096) = -1 EINVAL (Invalid argument)", ""),
        ("munmap(0x10000, 0) = -1 EINVAL (Invalid argument)", ""),
        (
            "munmap(0x10000, 4096) = -1 ENOMEM (Cannot allocate memory)",
            "0 unmap 10000-11000",
        ),
        (
            "madvise(0x10000, 4096, MADV_DONTNEED) = -1 ENOMEM (Cannot allocate memory)",
            "0 clear 10000-11000",
        ),
        (
            "madvise(0x10000, 4096, MADV_DONTNEED) = -1 EINVAL (Invalid argument)",
            "",
        ),
        (
            "mprotect(0x10000, 4096, PROT_READ) = -1 ENOMEM (Cannot allocate memory)",
            "",
        ),
        (
            "mprotect(0x10000, 4096, PROT_READ) = -1 EACCES (Permission denied)",
            "0 protect 10000-11000",
        ),
        (
            &format!(
                "mmap(0x10000, 4096, {}) = -1 ENOMEM (x)",
                RW.replace("MAP_PRIVATE", "MAP_PRIVATE|MAP_FIXED")
            ),
            "0 unmap 10000-11000",
        ),
    ];
    for (call, wanted) in calls {
        assert_eq!(
            events(call).get(1).map_or("", String::as_str),
            wanted,
            "{call}"
        );
    }
    let mapped = format!("mmap(NULL, 8192, {RW}) = 0x10000\n");
    let failed = mapped.clone() + "munmap(0x10000, 4096) = -1 ENOMEM (x)";
    assert_eq!(mappings(&failed, 0), ["10000-12000 rw-"]);
    let hole = mapped + "mprotect(0x11000, 8192, PROT_READ) = -1 ENOMEM (x)";
    assert_eq!(mappings(&hole, 0), ["10000-11000 rw-", "11000-12000 r--"]);
    assert_eq!(events(&hole)[1], "0 protect 11000-12000");
}

#[test]
fn mappings_follow_the_calls() {
    let map = |at: u64, length: u64| format!("mmap(NULL, {length}, {RW}) = {at:#x}\n");
    let of = |calls: &str| mappings(&(map(0x10000, 0x4000) + calls), 0);
    assert_eq!(
        of("munmap(0x11000, 0x1000) = 0"),
        ["10000-11000 rw-", "12000-14000 rw-"]
    );
    assert_eq!(
        of("mprotect(0x11000, 4096, PROT_NONE) = 0"),
        ["10000-11000 rw-", "11000-12000 ---", "12000-14000 rw-"]
    );
    assert_eq!(
        of("mremap(0x10000, 0x4000, 0x1000, 0) = 0x10000"),
        ["10000-11000 rw-"]
    );
    assert_eq!(
        of("mremap(0x10000, 0x4000, 0x8000, MREMAP_MAYMOVE) = 0x10000"),
        ["10000-18000 rw-"]
    );
    assert_eq!(
        of("mremap(0x10000, 0x4000, 0x8000, MREMAP_MAYMOVE) = 0x50000"),
        ["50000-58000 rw-"]
    );
    assert_eq!(
        of("mremap(0x11000, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x13000) = 0x13000"),
        ["10000-11000 rw-", "12000-14000 rw-"]
    );
    assert_eq!(
        of("mremap(0x10000, 0x2000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x50000) = 0x50000"),
        ["12000-14000 rw-", "50000-51000 rw-"]
    );
    assert_eq!(
        of("mremap(0x10000, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_DONTUNMAP, NULL) = 0x50000"),
        ["10000-14000 rw-", "50000-51000 rw-"]
    );
    assert_eq!(
        of("mremap(0x10000, 0x4000, 0x8000, MREMAP_MAYMOVE) = -1 ENOMEM (x)"),
        ["10000-14000 rw-"]
    );
    assert_eq!(
        of("brk(NULL) = 0x30000\nbrk(0x32000) = 0x32000\nbrk(0x31000) = 0x31000"),
        ["10000-14000 rw-", "30000-31000 rw-"]
    );
    assert_eq!(
        of("brk(NULL) = 0x30000\nbrk(0x32000) = 0x30000"),
        ["10000-14000 rw-"]
    );
    assert_eq!(
        of("shmget(IPC_PRIVATE, 8192, 0600) = 7\nshmat(7, NULL, SHM_RDONLY) = 0x50000"),
        ["10000-14000 rw-", "50000-52000 r--"]
    );
    assert_eq!(
        of("shmget(IPC_PRIVATE, 8192, 0600) = 7\nshmat(7, NULL, 0) = 0x50000\nshmdt(0x50000) = 0"),
        ["10000-14000 rw-"]
    );
    // Nobody has said that it is there, but it must be.
    assert_eq!(
        of("mprotect(0x30000, 0x1000, PROT_READ) = 0"),
        ["10000-14000 rw-", "30000-31000 r--"]
    );
}

#[test]
fn remap_to_a_fixed_place_is_two_ranges_in_flight() {
    let call = "mremap(0x10000, 4096, 4096, MREMAP_MAYMOVE|MREMAP_FIXED, 0x50000) = 0x50000";
    assert_eq!(
        events(call)[1..],
        ["0 unmap 50000-51000", "0 unmap 10000-11000", "end 10000"]
    );
}

#[test]
fn segments_of_unknown_length_are_counted() {
    let replay = replay(b"shmat(7, NULL, 0) = 0x50000");
    assert_eq!(replay.summary().unknown_lengths, 1);
    let remap = "shmget(IPC_PRIVATE, 8192, 0600) = 7\nshmat(7, 0x50000, SHM_REMAP) = 0x50000";
    assert_eq!(events(remap)[1], "0 unmap 50000-52000");
}

#[test]
fn a_break_that_falls_is_an_unmap() {
    let calls = "brk(NULL) = 0x30000\nbrk(0x40000) = 0x40000\nbrk(0x31000) = 0x31000";
    assert_eq!(events(calls)[1..], ["0 unmap 31000-40000"]);
}

#[test]
fn fork_exec_and_exit() {
    let trace = format!(
        "7 execve(\"/bin/sh\", [\"sh\"], 0x7 /* 3 vars */) = 0\n\
         7 mmap(NULL, 8192, {RW}) = 0x10000\n\
         7 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0x20000\n\
         7 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD, child_tidptr=0x7f) = 8\n\
         8 munmap(0x10000, 4096) = 0\n\
         8 execve(\"/bin/no\", [\"no\"], 0x7) = -1 ENOENT (No such file or directory)\n\
         8 execve(\"/bin/ls\", [\"ls\"], 0x7) = 0\n\
         8 exit_group(0) = ?\n\
         8 +++ exited with 0 +++\n\
         7 --- SIGCHLD {{si_signo=SIGCHLD, si_pid=8}} ---\n\
         7 exit_group(0) = ?\n\
         7 +++ exited with 0 +++\n"
    );
    assert_eq!(
        events(&trace),
        [
            "new 0 pid 7",
            "gone 0",
            "new 1 pid 7",
            "1 fork 10000-12000",
            "new 2 pid 8 from 1",
            "2 unmap 10000-11000",
            "gone 2",
            "new 3 pid 8",
            "gone 3",
            "gone 1"
        ]
    );
}

#[test]
fn a_vfork_child_shares_until_execve() {
    let trace = "7 vfork( <unfinished ...>\n\
         8 munmap(0x10000, 4096) = 0\n\
         8 execve(\"/bin/ls\", [\"ls\"], 0x7 <unfinished ...>\n\
         7 <... vfork resumed>) = 8\n\
         8 <... execve resumed>) = 0\n\
         8 munmap(0x20000, 4096) = 0\n\
         7 exit_group(0) = ?\n";
    assert_eq!(
        events(trace),
        [
            "new 0 pid 7",
            "0 unmap 10000-11000",
            "new 1 pid 8",
            "1 unmap 20000-21000",
            "gone 0"
        ]
    );
}

#[test]
fn threads_share_and_the_last_one_releases() {
    let trace = "7 clone3({flags=CLONE_VM|CLONE_THREAD, stack=0x7f} => {parent_tid=[8]}, 88) = 8\n\
         8 munmap(0x10000, 4096) = 0\n\
         7 exit_group(0 <unfinished ...>\n\
         8 <... futex resumed>) = ?\n\
         7 <... exit_group resumed>) = ?\n\
         8 +++ exited with 0 +++\n\
         7 +++ exited with 0 +++\n";
    assert_eq!(
        events(trace),
        ["new 0 pid 7", "0 unmap 10000-11000", "gone 0"]
    );
}

#[test]
fn a_thread_that_calls_execve_takes_the_pid_of_its_process() {
    let trace = "7 clone3({flags=CLONE_VM|CLONE_THREAD, stack=0x7f} => {parent_tid=[8]}, 88) = 8\n\
         8 execve(\"/bin/ls\", [\"ls\"], 0x7 <unfinished ...>\n\
         7 +++ superseded by execve in pid 8 +++\n\
         7 <... execve resumed>) = 0\n\
         7 munmap(0x10000, 4096) = 0\n\
         7 exit_group(0) = ?\n";
    assert_eq!(
        events(trace),
        [
            "new 0 pid 7",
            "gone 0",
            "new 1 pid 7",
            "1 unmap 10000-11000",
            "gone 1"
        ]
    );
}

#[test]
fn ranges_of_unfinished_calls_overlap() {
    let trace = "7 clone3({flags=CLONE_VM|CLONE_THREAD} => {parent_tid=[8]}, 88) = 8\n\
         7 munmap(0x10000, 4096 <unfinished ...>\n\
         8 munmap(0x20000, 4096) = 0\n\
         7 <... munmap resumed>) = 0\n";
    assert_eq!(
        events(trace)[1..],
        ["0 unmap 10000-11000", "0 unmap 20000-21000", "end 20000"]
    );
}

/// The address that an unfinished munmap gives back may be another thread's before strace prints its end.
#[test]
fn an_address_is_free_when_its_munmap_begins() {
    let trace = |between: &str, end: &str| {
        format!(
            "7 clone3({{flags=CLONE_VM|CLONE_THREAD}} => {{parent_tid=[8]}}, 88) = 8\n\
             7 mmap(NULL, 4096, {RW}) = 0x10000\n\
             7 munmap(0x10000, 4096 <unfinished ...>\n{between}\
             7 <... munmap resumed>) = {end}\n"
        )
    };
    let other = "8 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0x10000\n";
    assert_eq!(mappings(&trace(other, "0"), 0), ["10000-11000 r--"]);
    assert!(mappings(&trace("", "0"), 0).is_empty());
    assert_eq!(
        mappings(&trace("", "-1 ENOMEM (x)"), 0),
        ["10000-11000 rw-"]
    );
}

/// As strace writes to a terminal, or to a file that its standard error goes to.
#[test]
fn a_remark_in_the_middle_of_a_call_does_not_hide_its_end() {
    let replay = replay(
        b"execve(\"/bin/x\", [\"x\"], 0x7) = 0\n\
          mmap(NULL, 8192, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x10000\n\
          clone(child_stack=NULL, flags=SIGCHLDstrace: Process 8 attached\n\
          , child_tidptr=0x7fcd7ab27a10) = 8\n\
          [pid     7] munmap(0x10000, 4096strace: Process 9 attached\n\
          ) = 0\n\
          [pid     7] munmap(0x11000, 4096strace: Process 10 attached\n\
          nonsense\n",
    );
    let summary = replay.summary();
    assert_eq!(
        (summary.forks, summary.unreadable),
        (1, 1),
        "{:?}",
        summary.unread
    );
    assert_eq!(summary.total(Event::MMU_NOTIFY_UNMAP).events, 2);
}

#[test]
fn of_several_clones_the_one_that_returns_the_child_is_its_parent() {
    let trace = "7 execve(\"/bin/sh\", [\"sh\"], 0x7) = 0\n\
         7 clone(child_stack=NULL, flags=SIGCHLD) = 8\n\
         7 clone(child_stack=NULL, flags=SIGCHLD <unfinished ...>\n\
         8 clone(child_stack=NULL, flags=SIGCHLD <unfinished ...>\n\
         10 munmap(0x10000, 4096) = 0\n\
         7 <... clone resumed>) = 9\n\
         8 <... clone resumed>) = 10\n\
         9 munmap(0x20000, 4096) = 0\n";
    let made: Vec<String> = events(trace)
        .into_iter()
        .filter(|line| line.contains("from"))
        .collect();
    assert_eq!(
        made,
        [
            "new 2 pid 8 from 1",
            "new 3 pid 10 from 2",
            "new 4 pid 9 from 1"
        ]
    );
}

#[test]
fn without_process_calls_it_is_one_process() {
    let trace = "7 munmap(0x10000, 4096) = 0\n8 munmap(0x20000, 4096) = 0\n";
    assert_eq!(
        events(trace),
        ["new 0 pid 7", "0 unmap 10000-11000", "0 unmap 20000-21000"]
    );
}

#[test]
fn traces_one_after_the_other() {
    let one = |pid| {
        format!(
            "{pid} execve(\"/bin/ls\", [\"ls\"], 0x7) = 0\n{pid} munmap(0x10000, 4096) = 0\n{pid} exit_group(0) = ?\n"
        )
    };
    let both = events(&(one(7) + &one(9)));
    assert_eq!(both.len(), 10);
    assert_eq!(
        both[5..],
        [
            "new 2 pid 9",
            "gone 2",
            "new 3 pid 9",
            "3 unmap 10000-11000",
            "gone 3"
        ]
    );
}

/// As strace prints to a terminal: pids only while there are several, remarks in the middle of a call.
#[test]
fn a_trace_of_a_terminal() {
    let trace = "execve(\"/bin/sh\", [\"sh\"], 0x7) = 0\n\
         vfork(strace: Process 8 attached\n <unfinished ...>\n\
         [pid     8] execve(\"/bin/ls\", [\"ls\"], 0x7) = 0\n\
         [pid     7] <... vfork resumed>) = 8\n\
         [pid     8] munmap(0x10000, 4096) = 0\n\
         [pid     8] exit_group(0) = ?\n\
         [pid     8] +++ exited with 0 +++\n\
         munmap(0x20000, 4096) = 0\n\
         exit_group(0) = ?\n\
         +++ exited with 0 +++\n";
    assert_eq!(
        events(trace),
        [
            "new 0 pid 0",
            "gone 0",
            "new 1 pid 0",
            "new 2 pid 8",
            "2 unmap 10000-11000",
            "gone 2",
            "1 unmap 20000-21000",
            "gone 1"
        ]
    );
}

#[test]
fn lines_that_cannot_be_read_are_counted_and_shown() {
    let mut text = String::from(
        "munmap(0x10000, 4096) = 0\nhello\nmunmap(x, 4096) = 0\n<... mmap resumed>) = 0x5\nmmap(NULL, 5) = 7\n",
    );
    let first = replay(text.as_bytes());
    let lines: Vec<u64> = first
        .summary()
        .unread
        .iter()
        .map(|unread| unread.line)
        .collect();
    assert_eq!((first.summary().unreadable, lines), (4, vec![2, 3, 4, 5]));
    assert_eq!(first.summary().unread[0].text, "hello");
    text.push_str(&"nonsense\n".repeat(100));
    let second = replay(text.as_bytes());
    assert_eq!(
        (second.summary().unreadable, second.summary().unread.len()),
        (104, 10)
    );
}

#[test]
fn what_is_not_followed_is_counted_by_name() {
    let replay = replay(b"io_setup(128, [0x7f0000000000]) = 0\nwait4(-1, NULL, 0, NULL) = 8\n");
    let found: Vec<_> = replay.summary().not_followed.iter().collect();
    assert_eq!(found, [(&"io_setup", &1)]);
    assert_eq!(replay.summary().unreadable, 0);
}

#[test]
fn times_never_fall() {
    let mut replay = Replay::new(
        &b"10:00:00 munmap(0x10000, 4096) = 0\n09:00:00 munmap(0x10000, 4096) = 0\n"[..],
        Diary::default(),
    );
    replay.watch_mappings();
    let mut last = None;
    while replay.step().expect("it runs") {
        let now = replay.time();
        assert!(now >= last, "{now:?} after {last:?}");
        last = now;
    }
    assert_eq!(last, Some(36_000_000_000));
}

#[test]
fn snapshots_are_taken_over_and_compared() {
    let trace = format!(
        "7 execve(\"/bin/ls\", [\"ls\"], 0x7) = 0\n7 mmap(NULL, 8192, {RW}) = 0x10000\n7 mprotect(0x400000, 4096, PROT_READ) = 0\n7 exit_group(0) = ?\n"
    );
    let at = |line, moment, text: &str| Snapshot {
        line,
        moment,
        text: text.into(),
    };
    let exec = "400000-402000 rw-p 00000000 fe:00 12   /bin/ls\n7ff0000-7ff2000 rw-p 00000000 00:00 0   [stack]\n";
    let run = |exit: &str| {
        let mut replay = Replay::new(trace.as_bytes(), Diary::default());
        replay.add_snapshots([at(1, Moment::Exec, exec), at(4, Moment::Exit, exit)]);
        replay.run().expect("it runs");
        let (differences, compared) = replay.differences();
        assert_eq!(compared, 1);
        differences.to_vec()
    };
    let right = "10000-12000 rw-p 00000000 00:00 0 \n400000-401000 r--p 00000000 fe:00 12   /bin/ls\n\
        401000-402000 rw-p 00001000 fe:00 12   /bin/ls\n7fe0000-7ff2000 rw-p 00000000 00:00 0   [stack]\n\
        7ffe000-7fff000 r-xp 00000000 00:00 0   [vdso]\n";
    assert_eq!(run(right), []);
    for (wrong, start, end) in [
        (
            right.replace("10000-12000 rw-p", "10000-12000 r--p"),
            0x10000,
            0x12000,
        ),
        (
            right.replace("10000-12000 rw-p", "10000-11000 rw-p"),
            0x11000,
            0x12000,
        ),
        (
            right.replace("401000-402000", "401000-403000"),
            0x402000,
            0x403000,
        ),
        (
            right.replace("401000-402000 rw-p 00001000", "401000-402000 rw-p 00003000"),
            0x401000,
            0x402000,
        ),
        (
            right.replace(
                "r--p 00000000 fe:00 12   /bin/ls",
                "r--p 00000000 fe:00 12   /bin/cp",
            ),
            0x400000,
            0x401000,
        ),
        (
            right.replace("10000-12000 rw-p", "10000-12000 rw-s"),
            0x10000,
            0x12000,
        ),
    ] {
        let found = run(&wrong);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].start, found[0].end), (start, end), "{found:?}");
    }
}

/// Lines of a real trace, cut, spliced and changed at random: nothing panics, every start has its end, every line is counted.
#[test]
fn nonsense_does_no_harm() {
    let seed = include_bytes!("../../tests/replay/threads.strace");
    let mut state = 42_u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % below
    };
    let mut unreadable = 0;
    for _ in 0..3000 {
        let at = random(seed.len() / 2);
        let mut text = seed[at..at + random(4000)].to_vec();
        for _ in 0..random(20) {
            if text.is_empty() {
                break;
            }
            let at = random(text.len());
            match random(5) {
                0 => text[at] = random(256) as u8,
                1 => text.truncate(at),
                2 => text.insert(at, b"()<>\"[]{},= 0x\\\n"[random(15)]),
                3 => {
                    text.drain(at..(at + random(30)).min(text.len()));
                }
                _ => {
                    let from = random(seed.len() - 60);
                    let _ = text.splice(at..at, seed[from..from + random(60)].iter().copied());
                }
            }
        }
        let replay = replay(&text);
        let summary = replay.summary();
        let lines = text.split(|byte| *byte == b'\n').count() as u64;
        assert!(summary.lines == lines || summary.lines + 1 == lines);
        unreadable += summary.unreadable;
    }
    assert!(unreadable > 1000, "only {unreadable} lines were spoilt");
}
