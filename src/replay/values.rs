//! The values of arguments: numbers and flags, by name or raw.

use super::line::skip;

/// The arguments of a call, one after the other, without spaces round them.
pub(super) fn arguments(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    core::iter::from_fn(move || {
        let text = rest?;
        let mut depth = 0_usize;
        let mut at = 0;
        while at < text.len() {
            match text[at] {
                b',' if depth == 0 => {
                    rest = Some(&text[at + 1..]);
                    return Some(text[..at].trim_ascii());
                }
                b'(' | b'[' | b'{' => depth += 1,
                b')' | b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            at = skip(text, at);
        }
        rest = None;
        Some(text.trim_ascii())
    })
}

/// A number as strace prints it: decimal, hexadecimal, octal, negative, NULL.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    if text == b"NULL" {
        return Some(0);
    }
    if let Some(rest) = text.strip_prefix(b"-") {
        return unsigned(rest).map(u64::wrapping_neg);
    }
    unsigned(text)
}

fn unsigned(text: &[u8]) -> Option<u64> {
    let (digits, radix) = match text {
        [b'0', b'x' | b'X', rest @ ..] => (rest, 16),
        [b'0', rest @ ..] if !rest.is_empty() => (rest, 8),
        _ => (text, 10),
    };
    if digits.is_empty() || digits[0] == b'+' {
        return None;
    }
    u64::from_str_radix(core::str::from_utf8(digits).ok()?, radix).ok()
}

/// Flags: names and numbers, joined by `|`. A name that is not in the table counts nothing: flags that the model does not
/// know do not matter to it. None if there is no flag at all.
pub(super) fn flags(text: &[u8], names: &[(&str, u64)]) -> Option<u64> {
    let text = without_comment(text);
    if text.is_empty() {
        return None;
    }
    let mut sum = 0;
    for part in text.split(|byte| *byte == b'|') {
        let part = part.trim_ascii();
        let named = names.iter().find(|(name, _)| name.as_bytes() == part);
        sum |= match named {
            Some((_, value)) => *value,
            None => number(part).unwrap_or(0),
        };
    }
    Some(sum)
}

/// `0x3 /* PROT_READ|PROT_WRITE */` without the comment.
fn without_comment(text: &[u8]) -> &[u8] {
    let end = text.windows(2).position(|window| window == b"/*");
    text[..end.unwrap_or(text.len())].trim_ascii()
}

/// The path that `-y` prints behind a file descriptor, `3</etc/passwd>`.
pub(super) fn path(text: &[u8]) -> Option<&[u8]> {
    let start = text.iter().position(|byte| *byte == b'<')? + 1;
    let end = text.iter().rposition(|byte| *byte == b'>')?;
    text.get(start..end)
}

/// PROT_*
pub(super) const PROTECTION: &[(&str, u64)] = &[
    ("PROT_READ", 1),
    ("PROT_WRITE", 2),
    ("PROT_EXEC", 4),
    ("PROT_GROWSDOWN", 0x0100_0000),
    ("PROT_GROWSUP", 0x0200_0000),
];

/// MAP_*
pub(super) const MAP: &[(&str, u64)] = &[
    ("MAP_PRIVATE", 2),
    ("MAP_ANONYMOUS", 0x20),
    ("MAP_FIXED", 0x10),
    ("MAP_SHARED", 1),
    ("MAP_SHARED_VALIDATE", 3),
    ("MAP_GROWSDOWN", 0x100),
    ("MAP_FIXED_NOREPLACE", 0x10_0000),
];

/// MREMAP_*
pub(super) const MREMAP: &[(&str, u64)] = &[
    ("MREMAP_MAYMOVE", 1),
    ("MREMAP_FIXED", 2),
    ("MREMAP_DONTUNMAP", 4),
];

/// MADV_*, also where it takes nothing away: the model has to tell a name that it does not know from 0.
pub(super) const MADVICE: &[(&str, u64)] = &[
    ("MADV_NORMAL", 0),
    ("MADV_RANDOM", 1),
    ("MADV_SEQUENTIAL", 2),
    ("MADV_WILLNEED", 3),
    ("MADV_DONTNEED", 4),
    ("MADV_FREE", 8),
    ("MADV_REMOVE", 9),
    ("MADV_DONTFORK", 10),
    ("MADV_DOFORK", 11),
    ("MADV_MERGEABLE", 12),
    ("MADV_UNMERGEABLE", 13),
    ("MADV_HUGEPAGE", 14),
    ("MADV_NOHUGEPAGE", 15),
    ("MADV_DONTDUMP", 16),
    ("MADV_DODUMP", 17),
    ("MADV_WIPEONFORK", 18),
    ("MADV_KEEPONFORK", 19),
    ("MADV_COLD", 20),
    ("MADV_PAGEOUT", 21),
    ("MADV_POPULATE_READ", 22),
    ("MADV_POPULATE_WRITE", 23),
    ("MADV_DONTNEED_LOCKED", 24),
    ("MADV_COLLAPSE", 25),
    ("MADV_HWPOISON", 100),
    ("MADV_SOFT_OFFLINE", 101),
    ("MADV_GUARD_INSTALL", 102),
    ("MADV_GUARD_REMOVE", 103),
];

/// CLONE_*
pub(super) const CLONE: &[(&str, u64)] = &[
    ("CLONE_VM", 0x100),
    ("CLONE_VFORK", 0x4000),
    ("CLONE_THREAD", 0x1_0000),
];

/// SHM_*
pub(super) const SHM: &[(&str, u64)] = &[
    ("SHM_RDONLY", 0o10000),
    ("SHM_RND", 0o20000),
    ("SHM_REMAP", 0o40000),
    ("SHM_EXEC", 0o100000),
];

/// MPOL_MF_*
pub(super) const MEMPOLICY: &[(&str, u64)] = &[
    ("MPOL_MF_STRICT", 1),
    ("MPOL_MF_MOVE", 2),
    ("MPOL_MF_MOVE_ALL", 4),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(number(b"NULL"), Some(0));
        assert_eq!(number(b"4096"), Some(4096));
        assert_eq!(number(b"0x7fffffffffff"), Some(0x7fff_ffff_ffff));
        assert_eq!(number(b"0600"), Some(0o600));
        assert_eq!(number(b"-1"), Some(u64::MAX));
        for wrong in [
            &b""[..],
            b"0x",
            b"x",
            b"1x",
            b"99999999999999999999",
            b"+1",
            b"--",
            b"0x+1",
        ] {
            assert_eq!(number(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn flags_by_name_and_raw() {
        assert_eq!(flags(b"PROT_READ|PROT_WRITE", PROTECTION), Some(3));
        assert_eq!(
            flags(b"0x3 /* PROT_READ|PROT_WRITE */", PROTECTION),
            Some(3)
        );
        assert_eq!(flags(b"PROT_NONE", PROTECTION), Some(0));
        assert_eq!(
            flags(b"MAP_PRIVATE|MAP_ANONYMOUS|0x800|21<<MAP_HUGE_SHIFT", MAP),
            Some(0x822)
        );
        assert_eq!(flags(b"", MAP), None);
    }

    #[test]
    fn arguments_are_split_at_their_own_commas() {
        let split = |text: &'static str| {
            arguments(text.as_bytes())
                .map(|one| core::str::from_utf8(one).expect("text"))
                .collect::<Vec<_>>()
        };
        assert_eq!(split("NULL, 4096, 3</a, b>"), ["NULL", "4096", "3</a, b>"]);
        assert_eq!(
            split(r#"{a=1, b=[2, 3]}, "x, \", y", 5 "#),
            ["{a=1, b=[2, 3]}", r#""x, \", y""#, "5"]
        );
        assert_eq!(split(""), [""]);
    }

    #[test]
    fn paths_of_descriptors() {
        assert_eq!(path(b"3</etc/passwd>"), Some(&b"/etc/passwd"[..]));
        assert_eq!(path(b"3"), None);
        assert_eq!(path(b"3>x<"), None);
    }
}
