//! What a call asks for: its name and arguments, as far as an address space or a process changes by it.

use super::values::{self, arguments, flags, number};

/// A call that the model follows. Addresses and lengths are bytes as the program gave them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request<'a> {
    /// mmap
    Map {
        /// Where, if it is fixed.
        start: u64,
        /// How long.
        length: u64,
        /// PROT_*
        protection: u64,
        /// MAP_*
        flags: u64,
        /// What `-y` says of the file.
        file: Option<&'a [u8]>,
        /// Where in the file.
        offset: u64,
    },
    /// munmap
    Unmap {
        /// Where.
        start: u64,
        /// How long.
        length: u64,
    },
    /// mremap
    Remap {
        /// Where.
        start: u64,
        /// How long it was.
        old: u64,
        /// How long it shall be.
        new: u64,
        /// MREMAP_*
        flags: u64,
        /// Where to, if it is fixed.
        destination: u64,
    },
    /// mprotect and pkey_mprotect
    Protect {
        /// Where.
        start: u64,
        /// How long.
        length: u64,
        /// PROT_*
        protection: u64,
    },
    /// brk
    Break(u64),
    /// madvise
    Advise {
        /// Where.
        start: u64,
        /// How long.
        length: u64,
        /// MADV_*
        advice: u64,
    },
    /// mbind that moves pages
    Move {
        /// Where.
        start: u64,
        /// How long.
        length: u64,
    },
    /// remap_file_pages
    RemapFile {
        /// Where.
        start: u64,
        /// How long.
        length: u64,
    },
    /// shmget: how long the segment is.
    Segment(u64),
    /// shmat
    Attach {
        /// Which segment.
        id: u64,
        /// Where, or 0.
        start: u64,
        /// SHM_*
        flags: u64,
    },
    /// shmdt
    Detach(u64),
    /// clone, clone3, fork, vfork: CLONE_*
    Clone(u64),
    /// execve, execveat
    Exec,
    /// exit
    Exit,
    /// exit_group
    ExitGroup,
}

/// What became of a name and its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading<'a> {
    /// A call that the model follows.
    Request(Request<'a>),
    /// A call that changes no mapping, or none that can be told from here.
    Other,
    /// The arguments are not those of the call.
    Wrong,
}

/// Calls that change address spaces in ways that strace does not tell. They are counted by name.
pub(super) const NOT_FOLLOWED: &[&str] = &[
    "io_destroy",
    "io_setup",
    "map_shadow_stack",
    "migrate_pages",
    "move_pages",
    "process_madvise",
];

/// True for the calls that `%process` brings into a trace.
pub(super) fn is_of_process(name: &[u8]) -> bool {
    matches!(
        name,
        b"clone"
            | b"clone3"
            | b"fork"
            | b"vfork"
            | b"execve"
            | b"execveat"
            | b"exit"
            | b"exit_group"
            | b"wait4"
    )
}

/// True for the calls that the model follows.
pub(super) fn is_followed(name: &[u8]) -> bool {
    read(name, b"") != Reading::Other
}

/// The name of a call that the model follows, for as long as one likes.
pub(super) fn static_name(name: &[u8]) -> &'static str {
    const NAMES: [&str; 13] = [
        "mmap",
        "mmap2",
        "old_mmap",
        "munmap",
        "mremap",
        "mprotect",
        "pkey_mprotect",
        "brk",
        "madvise",
        "mbind",
        "remap_file_pages",
        "shmat",
        "shmdt",
    ];
    let found = NAMES.iter().find(|known| known.as_bytes() == name);
    found.copied().unwrap_or("other")
}

/// Reads a call.
pub(super) fn read<'a>(name: &[u8], text: &'a [u8]) -> Reading<'a> {
    let request = match name {
        b"mmap" | b"mmap2" | b"old_mmap" => map(text, if name == b"mmap2" { 4096 } else { 1 }),
        b"munmap" => two(text).map(|(start, length)| Request::Unmap { start, length }),
        b"mremap" => remap(text),
        b"mprotect" | b"pkey_mprotect" => protect(text),
        b"brk" => first(text).map(Request::Break),
        b"madvise" => advise(text),
        b"mbind" => return bind(text),
        b"remap_file_pages" => {
            two(text).map(|(start, length)| Request::RemapFile { start, length })
        }
        b"shmget" => arguments(text)
            .nth(1)
            .and_then(number)
            .map(Request::Segment),
        b"shmat" => attach(text),
        b"shmdt" => first(text).map(Request::Detach),
        b"clone" | b"clone3" => Some(Request::Clone(clone(text))),
        b"fork" => Some(Request::Clone(0)),
        b"vfork" => Some(Request::Clone(VM | VFORK)),
        b"execve" | b"execveat" => Some(Request::Exec),
        b"exit" => Some(Request::Exit),
        b"exit_group" => Some(Request::ExitGroup),
        _ => return Reading::Other,
    };
    request.map_or(Reading::Wrong, Reading::Request)
}

/// CLONE_VM
pub(super) const VM: u64 = 0x100;
/// CLONE_VFORK
pub(super) const VFORK: u64 = 0x4000;
/// CLONE_THREAD
pub(super) const THREAD: u64 = 0x1_0000;

fn first(text: &[u8]) -> Option<u64> {
    number(arguments(text).next()?)
}

fn two(text: &[u8]) -> Option<(u64, u64)> {
    let mut of = arguments(text);
    Some((number(of.next()?)?, number(of.next()?)?))
}

fn map(text: &[u8], unit: u64) -> Option<Request<'_>> {
    let mut of = arguments(text);
    let (start, length) = (number(of.next()?)?, number(of.next()?)?);
    let protection = flags(of.next()?, values::PROTECTION)?;
    let flags = flags(of.next()?, values::MAP)?;
    let file = values::path(of.next()?);
    let offset = number(of.next()?)?.wrapping_mul(unit);
    Some(Request::Map {
        start,
        length,
        protection,
        flags,
        file,
        offset,
    })
}

fn remap(text: &[u8]) -> Option<Request<'_>> {
    let mut of = arguments(text);
    Some(Request::Remap {
        start: number(of.next()?)?,
        old: number(of.next()?)?,
        new: number(of.next()?)?,
        flags: flags(of.next()?, values::MREMAP)?,
        destination: of.next().and_then(number).unwrap_or(0),
    })
}

fn protect(text: &[u8]) -> Option<Request<'_>> {
    let mut of = arguments(text);
    Some(Request::Protect {
        start: number(of.next()?)?,
        length: number(of.next()?)?,
        protection: flags(of.next()?, values::PROTECTION)?,
    })
}

fn advise(text: &[u8]) -> Option<Request<'_>> {
    let mut of = arguments(text);
    Some(Request::Advise {
        start: number(of.next()?)?,
        length: number(of.next()?)?,
        advice: flags(of.next()?, values::MADVICE)?,
    })
}

fn bind(text: &[u8]) -> Reading<'_> {
    let moving = arguments(text)
        .nth(5)
        .and_then(|last| flags(last, values::MEMPOLICY));
    match (two(text), moving) {
        (Some((start, length)), Some(flags)) if flags & 6 != 0 => {
            Reading::Request(Request::Move { start, length })
        }
        (Some(_), Some(_)) => Reading::Other,
        _ => Reading::Wrong,
    }
}

fn attach(text: &[u8]) -> Option<Request<'_>> {
    let mut of = arguments(text);
    Some(Request::Attach {
        id: number(of.next()?)?,
        start: number(of.next()?)?,
        flags: flags(of.next()?, values::SHM)?,
    })
}

/// The flags of clone (`flags=...`, or the first argument if it is raw) or of clone3 (`{flags=...}`).
fn clone(text: &[u8]) -> u64 {
    let mark = b"flags=";
    let Some(at) = text.windows(mark.len()).position(|window| window == mark) else {
        return first(text).unwrap_or(0);
    };
    let rest = &text[at + mark.len()..];
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b',' | b'}' | b' '));
    flags(&rest[..end.unwrap_or(rest.len())], values::CLONE).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, text: &'static str) -> Reading<'static> {
        read(name.as_bytes(), text.as_bytes())
    }

    #[test]
    fn calls_of_real_traces() {
        assert_eq!(
            of(
                "mmap",
                "0x7f105d80d000, 1400832, PROT_READ|PROT_EXEC, MAP_PRIVATE|MAP_FIXED|MAP_DENYWRITE, 3</lib/libc.so.6>, 0x26000"
            ),
            Reading::Request(Request::Map {
                start: 0x7f10_5d80_d000,
                length: 1_400_832,
                protection: 5,
                flags: 0x12,
                file: Some(b"/lib/libc.so.6"),
                offset: 0x26000
            })
        );
        assert_eq!(
            of("mremap", "0x7f0000000000, 4096, 8192, MREMAP_MAYMOVE"),
            Reading::Request(Request::Remap {
                start: 0x7f00_0000_0000,
                old: 4096,
                new: 8192,
                flags: 1,
                destination: 0
            })
        );
        assert_eq!(
            of(
                "clone",
                "child_stack=NULL, flags=CLONE_VM|CLONE_THREAD|SIGCHLD, child_tidptr=0x7f6c631aba10"
            ),
            Reading::Request(Request::Clone(VM | THREAD))
        );
        assert_eq!(
            of(
                "clone3",
                "{flags=CLONE_VM|CLONE_VFORK, exit_signal=SIGCHLD, stack=0x7f, stack_size=0x9000}, 88"
            ),
            Reading::Request(Request::Clone(VM | VFORK))
        );
        assert_eq!(
            of("clone", "0x10100, 0, 0"),
            Reading::Request(Request::Clone(0x10100))
        );
        assert_eq!(
            of("mbind", "0x1000, 4096, MPOL_BIND, [0x1], 64, MPOL_MF_MOVE"),
            Reading::Request(Request::Move {
                start: 0x1000,
                length: 4096
            })
        );
        assert_eq!(
            of("mbind", "0x1000, 4096, MPOL_BIND, [0x1], 64, 0"),
            Reading::Other
        );
        assert_eq!(of("wait4", "-1"), Reading::Other);
        assert_eq!(of("mmap", "NULL, 4096, PROT_READ"), Reading::Wrong);
        assert_eq!(of("munmap", "x, 4096"), Reading::Wrong);
    }
}
