//! `/proc/PID/maps` against the model.
//!
//! Snapshots are taken by `mmu_notifier record`: after each execve, whose mappings the kernel makes and no call tells of, and just
//! before each end of a process. Compared is, byte by byte, what is mapped, with which protection, shared or private, and
//! of which file, where both sides know it.
//!
//! Exceptions: `[stack]` grows without a call; `[vvar]`, `[vdso]`, `[vsyscall]` and their like belong to the kernel. Without
//! a snapshot of its execve, nothing that the kernel maps there is known: then only what the model knows is compared, and what
//! it learnt from a change alone is not.

use super::Place;
use super::names::Names;
use super::space::{Content, Mapping, Space};

/// When a snapshot was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before the return of execve.
    Exec,
    /// Before exit_group.
    Exit,
}

/// A copy of `/proc/PID/maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The line of the call, from 1.
    pub line: u64,
    /// When.
    pub moment: Moment,
    /// What the file said.
    pub text: String,
}

/// Bytes on which model and kernel differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which process, and where it ended.
    pub place: Place,
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// What the model says.
    pub model: String,
    /// What the kernel says.
    pub kernel: String,
}

/// A line of `/proc/PID/maps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row<'a> {
    start: u64,
    end: u64,
    protection: u8,
    shared: bool,
    offset: u64,
    name: &'a str,
}

fn rows(text: &str) -> impl Iterator<Item = Row<'_>> {
    text.lines().filter_map(row)
}

/// `7f105d7e7000-7f105d80d000 r-xp 00026000 fe:00 1234    /lib/libc.so.6`
fn row(line: &str) -> Option<Row<'_>> {
    let hex = |text| u64::from_str_radix(text, 16).ok();
    let mut words = line.splitn(6, ' ');
    let (start, end) = words.next()?.split_once('-')?;
    let access = words.next()?.as_bytes();
    let offset = words.next()?;
    let name = words.nth(2).unwrap_or("").trim();
    let bit = |at: usize, letter| u8::from(access.get(at) == Some(&letter)) << at;
    Some(Row {
        start: hex(start)?,
        end: hex(end)?,
        protection: bit(0, b'r') | bit(1, b'w') | bit(2, b'x'),
        shared: access.get(3) == Some(&b's'),
        offset: hex(offset)?,
        name: name.strip_suffix(" (deleted)").unwrap_or(name),
    })
}

impl Row<'_> {
    fn is_file(&self) -> bool {
        self.name.starts_with('/') && !self.name.starts_with("/SYSV") && self.name != "/dev/zero"
    }

    /// The kernel's own.
    fn is_special(&self) -> bool {
        self.name.starts_with("[v") || self.name == "[uprobes]"
    }
}

/// Takes over what the kernel mapped at execve.
pub(super) fn take_over(snapshot: &Snapshot, space: &mut Space, names: &mut Names) {
    space.seeded = true;
    for row in rows(&snapshot.text) {
        let mapping = Mapping {
            end: row.end,
            content: if row.is_file() {
                Content::File(names.number(Some(row.name.as_bytes())))
            } else {
                Content::Anonymous
            },
            offset: row.offset,
            protection: row.protection,
            shared: row.shared,
            written: row.protection & 2 != 0 && !row.shared,
            stays: false,
        };
        space.map(row.start, mapping);
    }
}

/// Where the model and the snapshot differ.
pub(super) fn compare(
    snapshot: &Snapshot,
    space: &Space,
    names: &Names,
    place: Place,
) -> Vec<Difference> {
    let kernel: Vec<Row<'_>> = rows(&snapshot.text).collect();
    let mut cuts: Vec<u64> = kernel.iter().flat_map(|row| [row.start, row.end]).collect();
    cuts.extend(
        space
            .iter()
            .flat_map(|(start, mapping)| [start, mapping.end]),
    );
    cuts.sort_unstable();
    cuts.dedup();
    let mut found: Vec<Difference> = Vec::new();
    for cut in cuts.windows(2) {
        let (start, end) = (cut[0], cut[1]);
        let ours = space.at(start);
        let theirs = kernel
            .iter()
            .find(|row| row.start <= start && start < row.end);
        if agree(ours, theirs, space, names, start) {
            continue;
        }
        let (model, kernel) = (describe(ours, names), describe_row(theirs));
        match found.last_mut() {
            Some(last) if last.end == start && (&last.model, &last.kernel) == (&model, &kernel) => {
                last.end = end;
            }
            _ => found.push(Difference {
                place,
                start,
                end,
                model,
                kernel,
            }),
        }
    }
    found
}

fn agree(
    ours: Option<(u64, &Mapping)>,
    theirs: Option<&Row<'_>>,
    space: &Space,
    names: &Names,
    at: u64,
) -> bool {
    match (ours, theirs) {
        (None, None) => true,
        (None, Some(row)) => !space.seeded || row.is_special() || row.name == "[stack]",
        (Some((_, mapping)), None) => mapping.content == Content::Unknown && !space.seeded,
        (Some((start, mapping)), Some(row)) => {
            let name = match mapping.content {
                Content::File(number) => names.name(number),
                _ => None,
            };
            let same_file = match mapping.content {
                Content::Unknown => true,
                Content::File(_) => name.is_none_or(|name| name == row.name),
                _ => !row.is_file(),
            };
            let same_offset = !row.is_file()
                || !matches!(mapping.content, Content::File(_))
                || mapping.offset.wrapping_add(at - start) == row.offset + (at - row.start);
            let same_sharing = mapping.content == Content::Unknown || mapping.shared == row.shared;
            mapping.protection == row.protection && same_sharing && same_file && same_offset
        }
    }
}

fn describe(mapping: Option<(u64, &Mapping)>, names: &Names) -> String {
    let Some((_, mapping)) = mapping else {
        return "nothing".into();
    };
    let what = match mapping.content {
        Content::Anonymous => "memory",
        Content::Heap => "heap",
        Content::Segment => "segment",
        Content::Unknown => "something",
        Content::File(number) => names.name(number).unwrap_or("a file"),
    };
    access(mapping.protection, mapping.shared) + " " + what
}

fn describe_row(row: Option<&Row<'_>>) -> String {
    let Some(row) = row else {
        return "nothing".into();
    };
    let name = if row.name.is_empty() {
        "memory"
    } else {
        row.name
    };
    access(row.protection, row.shared) + " " + name
}

fn access(protection: u8, shared: bool) -> String {
    let letter = |bit: u8, letter| if protection & bit == 0 { '-' } else { letter };
    let sharing = if shared { 's' } else { 'p' };
    [letter(1, 'r'), letter(2, 'w'), letter(4, 'x'), sharing]
        .iter()
        .collect()
}
