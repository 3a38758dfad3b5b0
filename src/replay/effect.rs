//! What a call does to an address space: which events it makes (SPEC 4.4), and what is mapped afterwards.
//!
//! A call takes away when it begins and makes when it ends. strace may print another thread's call in between, and that one may
//! get the address that this one gave back, but not one that this one is still to get.
//!
//! Ranges are those of the library's own producers (`src/mm/producers.rs`), whatever the model knows to be mapped there: it may
//! know too little, and a subscriber may be told too much. A call that its arguments alone refuse makes no event. A call
//! that failed later makes its pair without a change, except mprotect that met a hole: it has changed what lies before.

use std::collections::HashMap;

use crate::abi::notifier::mmu_notifier_event::{
    self as Event, MMU_NOTIFY_CLEAR as CLEAR, MMU_NOTIFY_PROTECTION_PAGE as PROTECTION_PAGE,
    MMU_NOTIFY_PROTECTION_VMA as PROTECTION, MMU_NOTIFY_UNMAP as UNMAP,
};
use crate::mm;

use super::line::Outcome;
use super::names::Names;
use super::request::Request;
use super::space::{Content, Mapping, PAGE, Space};

/// An event on `[start, end)`, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Why.
    pub event: Event,
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

/// At most two ranges are in flight for a call: what mremap moves, and what it replaces.
pub(super) type Ranges = [Option<Range>; 2];

/// A call that has begun.
#[derive(Debug, Default)]
pub(super) struct Begun {
    /// Its events, in the order of their starts.
    pub ranges: Ranges,
    taken: Vec<(u64, Mapping)>,
}

/// What the address spaces share.
#[derive(Debug, Default)]
pub(super) struct World {
    /// Names of files.
    pub names: Names,
    /// Lengths of segments by their id.
    pub segments: HashMap<u64, u64>,
    /// Segments that were attached, and of which the trace does not tell how long they are: a page is assumed.
    pub unknown_lengths: u64,
}

const FIXED: u64 = libc::MAP_FIXED as u64;
const NOREPLACE: u64 = libc::MAP_FIXED_NOREPLACE as u64;
const REMAP_FIXED: u64 = libc::MREMAP_FIXED as u64;
const DONTUNMAP: u64 = libc::MREMAP_DONTUNMAP as u64;
const GROWSDOWN: u64 = libc::PROT_GROWSDOWN as u64;
const REMAP_SEGMENT: u64 = libc::SHM_REMAP as u64;

/// The call begins. `outcome` is None where it is still to come.
pub(super) fn begin(
    request: &Request<'_>,
    outcome: Option<Outcome<'_>>,
    space: &mut Space,
) -> Begun {
    let ranges = plan(request, outcome, space);
    let failed = matches!(outcome, Some(Outcome::Failed(_) | Outcome::Unknown));
    let taken = if failed {
        Vec::new()
    } else {
        take(request, space)
    };
    Begun { ranges, taken }
}

/// The call ends. Returns an event that nobody could foresee when it began.
pub(super) fn finish(
    request: &Request<'_>,
    outcome: Outcome<'_>,
    begun: Begun,
    space: &mut Space,
    world: &mut World,
) -> Option<Range> {
    let Begun { ranges, taken } = begun;
    match outcome {
        Outcome::Value(value) => {
            make(request, value, taken, space, world);
            let planned = ranges.iter().any(Option::is_some);
            late(request, value, space).filter(|_| !planned)
        }
        Outcome::Failed(errno) => {
            put_back(taken, space);
            // Only mprotect has done a part of its work.
            if let (Request::Protect { protection, .. }, Some(range), b"ENOMEM") =
                (request, ranges[0], errno)
            {
                let end = range.end.min(space.mapped_until(range.start));
                protect(space, range.start, end, *protection);
            }
            None
        }
        Outcome::Unknown => {
            put_back(taken, space);
            None
        }
    }
}

/// What only the outcome tells: a mapping that grew had to move; a segment replaced what was there.
fn late(request: &Request<'_>, value: u64, space: &Space) -> Option<Range> {
    match *request {
        Request::Remap { start, old, .. } if old > 0 && value != start => range(UNMAP, start, old),
        Request::Attach { flags, .. } if flags & REMAP_SEGMENT != 0 => {
            range(UNMAP, value, *space.segments.get(&value)?)
        }
        _ => None,
    }
}

/// The events of a fork on the parent: what may have pages of its own becomes read-only in both.
// SPEC: 4.4
pub(super) fn of_fork(space: &Space) -> impl Iterator<Item = Range> {
    let copied = |mapping: &Mapping| !mapping.shared && mapping.written && !mapping.stays;
    space
        .iter()
        .filter(move |(_, mapping)| copied(mapping))
        .map(|(start, mapping)| Range {
            event: PROTECTION_PAGE,
            start,
            end: mapping.end,
        })
}

/// `length` bytes from `start` in whole pages, as the kernel takes them; None if it refuses them.
fn pages(start: u64, length: u64) -> Option<(u64, u64)> {
    let length = length.checked_next_multiple_of(PAGE)?;
    let end = start.checked_add(length)?;
    (start % PAGE == 0 && length > 0).then_some((start, end))
}

fn range(event: Event, start: u64, length: u64) -> Option<Range> {
    let (start, end) = pages(start, length)?;
    Some(Range { event, start, end })
}

/// Errors that the kernel finds in the arguments before it changes anything.
fn is_refusal(outcome: Option<Outcome<'_>>) -> bool {
    const REFUSALS: [&[u8]; 8] = [
        b"EINVAL",
        b"EBADF",
        b"ENOSYS",
        b"EFAULT",
        b"EPERM",
        b"ENODEV",
        b"EEXIST",
        b"EOVERFLOW",
    ];
    matches!(outcome, Some(Outcome::Failed(errno)) if REFUSALS.contains(&errno))
}

/// The events that a call makes, as far as they can be told when it begins.
// SPEC: 4.4
fn plan(request: &Request<'_>, outcome: Option<Outcome<'_>>, space: &Space) -> Ranges {
    if is_refusal(outcome) {
        return [None, None];
    }
    let one = match *request {
        Request::Unmap { start, length } => range(UNMAP, start, length),
        Request::Map {
            start,
            length,
            flags,
            ..
        } if flags & FIXED != 0 && flags & NOREPLACE == 0 => range(UNMAP, start, length),
        Request::Remap { .. } => return plan_remap(request, outcome),
        Request::Protect {
            start,
            length,
            protection,
        } => plan_protect(start, length, protection, outcome, space),
        Request::Break(wanted) => plan_break(wanted, outcome, space),
        Request::Advise {
            start,
            length,
            advice,
        } => clears(advice)
            .then(|| range(CLEAR, start, length))
            .flatten(),
        Request::Move { start, length } => range(CLEAR, start, length),
        Request::RemapFile { start, length } => range(UNMAP, start & !(PAGE - 1), length),
        Request::Detach(start) => space
            .segments
            .get(&start)
            .and_then(|length| range(UNMAP, start, *length)),
        _ => None,
    };
    [one, None]
}

fn clears(advice: u64) -> bool {
    i32::try_from(advice).is_ok_and(mm::clears)
}

/// The new range first: it is replaced before the old one moves there.
fn plan_remap(request: &Request<'_>, outcome: Option<Outcome<'_>>) -> Ranges {
    let Request::Remap {
        start,
        old,
        new,
        flags,
        destination,
    } = *request
    else {
        return [None, None];
    };
    let replaced = (flags & REMAP_FIXED != 0)
        .then(|| range(UNMAP, destination, new))
        .flatten();
    let moved = range(UNMAP, start, old);
    if old == 0 {
        [replaced, None]
    } else if flags & (REMAP_FIXED | DONTUNMAP) != 0 {
        [replaced, moved]
    } else if let Some((low, high)) = tail(start, old, new) {
        [range(UNMAP, low, high - low), None]
    } else {
        let moves = matches!(outcome, Some(Outcome::Value(value)) if value != start);
        [moved.filter(|_| moves), None]
    }
}

/// What a mapping loses when it shrinks.
fn tail(start: u64, old: u64, new: u64) -> Option<(u64, u64)> {
    let (_, old_end) = pages(start, old)?;
    let (_, new_end) = pages(start, new)?;
    (new_end < old_end).then_some((new_end, old_end))
}

fn plan_protect(
    start: u64,
    length: u64,
    protection: u64,
    outcome: Option<Outcome<'_>>,
    space: &Space,
) -> Option<Range> {
    let mut range = range(PROTECTION, start, length)?;
    if protection & GROWSDOWN != 0 {
        range.start = space.at(start).map_or(start, |(start, _)| start);
    }
    if outcome == Some(Outcome::Failed(b"ENOMEM")) {
        range.end = range.end.min(space.mapped_until(range.start));
    }
    (range.start < range.end).then_some(range)
}

fn plan_break(wanted: u64, outcome: Option<Outcome<'_>>, space: &Space) -> Option<Range> {
    let now = space.program_break?.checked_next_multiple_of(PAGE)?;
    let low = wanted.checked_next_multiple_of(PAGE)?;
    let obeyed = match outcome {
        Some(Outcome::Value(value)) => value == wanted,
        _ => true,
    };
    if wanted == 0 || low >= now || !obeyed {
        return None;
    }
    range(UNMAP, low, now - low)
}

/// Takes out what the call takes away, or may.
fn take(request: &Request<'_>, space: &mut Space) -> Vec<(u64, Mapping)> {
    let lost = |request: &Request<'_>, space: &Space| plan(request, None, space)[0];
    match *request {
        Request::Remap {
            start,
            old,
            new,
            flags,
            destination,
        } => {
            let mut taken = Vec::new();
            if flags & REMAP_FIXED != 0 {
                taken = take_pages(space, destination, new);
            }
            if old == 0 || flags & DONTUNMAP != 0 {
                return taken;
            }
            if let Some((low, high)) = tail(start, old, new).filter(|_| flags & REMAP_FIXED == 0) {
                return space.take(low, high);
            }
            if let Some((low, high)) = pages(start, old) {
                space.learn(low, high);
            }
            taken.extend(take_pages(space, start, old));
            taken
        }
        Request::Unmap { .. } | Request::Map { .. } | Request::Break(_) | Request::Detach(_) => {
            lost(request, space).map_or_else(Vec::new, |range| space.take(range.start, range.end))
        }
        _ => Vec::new(),
    }
}

fn take_pages(space: &mut Space, start: u64, length: u64) -> Vec<(u64, Mapping)> {
    pages(start, length).map_or_else(Vec::new, |(start, end)| space.take(start, end))
}

fn put_back(taken: Vec<(u64, Mapping)>, space: &mut Space) {
    for (start, mapping) in taken {
        space.map(start, mapping);
    }
}

/// Puts in what a call that returned `value` has made.
fn make(
    request: &Request<'_>,
    value: u64,
    taken: Vec<(u64, Mapping)>,
    space: &mut Space,
    world: &mut World,
) {
    match *request {
        Request::Map { .. } => map(request, value, space, world),
        Request::Remap { .. } => remap(request, value, taken, space),
        Request::Protect {
            start,
            length,
            protection,
        } => {
            if let Some(range) = plan_protect(start, length, protection, None, space) {
                space.learn(range.start, range.end);
                protect(space, range.start, range.end, protection);
            }
        }
        Request::Break(wanted) => set_break(wanted, value, taken, space),
        Request::Advise {
            start,
            length,
            advice,
        } => advise(space, start, length, advice),
        Request::Segment(length) => {
            world.segments.insert(value, length);
        }
        Request::Attach { id, flags, .. } => attach(id, flags, value, space, world),
        Request::Detach(start) => {
            space.segments.remove(&start);
        }
        _ => {}
    }
}

fn map(request: &Request<'_>, value: u64, space: &mut Space, world: &mut World) {
    const HUGETLB: u64 = libc::MAP_HUGETLB as u64;
    const HUGE: u64 = 2 << 20;
    let Request::Map {
        length,
        protection,
        flags,
        file,
        offset,
        ..
    } = *request
    else {
        return;
    };
    let anonymous = flags & libc::MAP_ANONYMOUS as u64 != 0;
    let length = if anonymous && flags & HUGETLB != 0 {
        length.checked_next_multiple_of(HUGE).unwrap_or(length)
    } else {
        length
    };
    let Some((start, end)) = pages(value, length) else {
        return;
    };
    let shared = flags & libc::MAP_SHARED as u64 != 0;
    let mapping = Mapping {
        end,
        content: if anonymous {
            Content::Anonymous
        } else {
            Content::File(world.names.number(file))
        },
        offset: if anonymous { 0 } else { offset },
        protection: (protection & 7) as u8,
        shared,
        written: protection & 2 != 0,
        stays: false,
    };
    space.map(start, mapping);
}

fn remap(request: &Request<'_>, value: u64, taken: Vec<(u64, Mapping)>, space: &mut Space) {
    let Request::Remap {
        start,
        old,
        new,
        flags,
        ..
    } = *request
    else {
        return;
    };
    let Some((new_start, new_end)) = pages(value, new) else {
        return;
    };
    let shrinks = tail(start, old, new).is_some() && flags & REMAP_FIXED == 0;
    if shrinks && flags & DONTUNMAP == 0 {
        return;
    }
    let old_end = pages(start, old).map_or(start + 1, |(_, end)| end);
    // A copy leaves the old mapping where it is.
    let pieces = if old == 0 || flags & DONTUNMAP != 0 {
        copy(space, start, old_end)
    } else {
        taken
    };
    let mut last = None;
    for (at, mapping) in pieces {
        // The rest is what MREMAP_FIXED replaced.
        if at < start || at >= old_end {
            continue;
        }
        let low = new_start.saturating_add(at - start);
        let end = low.saturating_add(mapping.end - at).min(new_end);
        space.map(low, Mapping { end, ..mapping });
        last = Some((low, mapping));
    }
    if let Some((low, mapping)) = last {
        space.map(
            low,
            Mapping {
                end: new_end,
                ..mapping
            },
        );
    }
}

/// What lies in `[start, end)`, which stays there.
fn copy(space: &mut Space, start: u64, end: u64) -> Vec<(u64, Mapping)> {
    let pieces = space.take(start, end);
    put_back(pieces.clone(), space);
    pieces
}

fn protect(space: &mut Space, start: u64, end: u64, protection: u64) {
    space.change(start, end, |mapping| {
        mapping.protection = (protection & 7) as u8;
        mapping.written |= protection & 2 != 0;
    });
}

fn set_break(wanted: u64, value: u64, taken: Vec<(u64, Mapping)>, space: &mut Space) {
    if value > wanted {
        put_back(taken, space);
    }
    let before = space.program_break.replace(value);
    let up = |address: u64| address.checked_next_multiple_of(PAGE);
    if let (Some(low), Some(end)) = (before.and_then(up), up(value)) {
        let heap = Mapping {
            end,
            content: Content::Heap,
            offset: 0,
            protection: 3,
            shared: false,
            written: true,
            stays: false,
        };
        space.map(low, heap);
    }
}

fn advise(space: &mut Space, start: u64, length: u64, advice: u64) {
    let stays = match i32::try_from(advice) {
        Ok(libc::MADV_DONTFORK) => true,
        Ok(libc::MADV_DOFORK) => false,
        _ => return,
    };
    if let Some((start, end)) = pages(start, length) {
        space.change(start, end, |mapping| mapping.stays = stays);
    }
}

fn attach(id: u64, flags: u64, value: u64, space: &mut Space, world: &mut World) {
    let length = world.segments.get(&id).copied().unwrap_or_else(|| {
        world.unknown_lengths += 1;
        PAGE
    });
    let Some((start, end)) = pages(value, length) else {
        return;
    };
    let read_only = flags & libc::SHM_RDONLY as u64 != 0;
    let execute = flags & libc::SHM_EXEC as u64 != 0;
    let mapping = Mapping {
        end,
        content: Content::Segment,
        offset: 0,
        protection: if read_only { 1 } else { 3 } | if execute { 4 } else { 0 },
        shared: true,
        written: false,
        stays: false,
    };
    space.map(start, mapping);
    space.segments.insert(start, length);
}
