//! One line of strace's output: who, when, and what, as slices of the line.
//!
//! Reads the forms of strace 4 to 6, with or without `-f`, `-o`, `-t`, `-tt`, `-ttt`, `-r`, `-T`, `-i`, `-n`, `-y`, `-X`, `-Y`.
//! Any bytes may come in; what is no line of strace is [`What::Unreadable`].

/// A line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// The thread, where the line names it.
    pub pid: Option<u32>,
    /// When, where the line says it.
    pub time: Option<Time>,
    /// What it says.
    pub what: What<'a>,
}

/// A time, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
    /// Of the day, or since 1970.
    At(u64),
    /// Since the line before.
    After(u64),
}

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What<'a> {
    /// A whole call; the text is what follows the opening parenthesis, see [`split`].
    Call(&'a [u8], &'a [u8]),
    /// A call that has begun, and its arguments so far.
    Unfinished(&'a [u8], &'a [u8]),
    /// The rest of a call that was unfinished.
    Resumed(&'a [u8], &'a [u8]),
    /// The thread is no more.
    Exited,
    /// The thread, its process's first, is no more: this other one goes on under its pid, because it called execve.
    Superseded(u32),
    /// A signal, a remark of strace, a stack trace, nothing.
    Remark,
    /// Something else.
    Unreadable,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome<'a> {
    /// It returned this.
    Value(u64),
    /// It failed with this errno, by name.
    Failed(&'a [u8]),
    /// strace does not know (`?`): the thread did not come back from it, or will make it again.
    Unknown,
}

/// Reads a line, without its newline.
pub(super) fn parse(line: &[u8]) -> Line<'_> {
    let mut rest = line.strip_suffix(b"\r").unwrap_or(line);
    let mut pid = None;
    let mut time = None;
    loop {
        rest = rest.trim_ascii_start();
        if let Some((number, after)) = bracketed_pid(rest) {
            (pid, rest) = (Some(number), after);
        } else if let Some(after) = brackets(rest) {
            rest = after;
        } else if let Some((found, after)) = clock(rest) {
            (time, rest) = (Some(found), after);
        } else if let Some((number, after)) = bare_pid(rest) {
            (pid, rest) = (Some(number), after);
        } else {
            break;
        }
    }
    Line {
        pid,
        time,
        what: what(rest),
    }
}

fn what(text: &[u8]) -> What<'_> {
    match text.first() {
        None | Some(b'>') => What::Remark,
        // What strace writes to a terminal after its remark in the middle of a call.
        Some(b'<') if text == b"<unfinished ...>" => What::Remark,
        Some(b'+') if text.starts_with(b"+++ ") => ended(&text[4..]),
        Some(b'-') if text.starts_with(b"--- ") => What::Remark,
        Some(b'<') => resumed(text).unwrap_or(What::Unreadable),
        _ => call(text).unwrap_or_else(|| remark(text)),
    }
}

fn ended(text: &[u8]) -> What<'_> {
    if let Some(rest) = text.strip_prefix(b"superseded by execve in pid ") {
        return number(rest).map_or(What::Unreadable, |(pid, _)| What::Superseded(pid as u32));
    }
    if text.starts_with(b"exited with ") || text.starts_with(b"killed by ") {
        What::Exited
    } else {
        What::Unreadable
    }
}

/// `<... mmap resumed>) = 0`
fn resumed(text: &[u8]) -> Option<What<'_>> {
    let rest = text.strip_prefix(b"<... ")?;
    let (name, rest) = word(rest)?;
    let rest = rest.strip_prefix(b" resumed>")?;
    Some(What::Resumed(name, rest))
}

/// `mmap(NULL, 4096, ...) = 0x7f0000000000`, or its beginning.
fn call(text: &[u8]) -> Option<What<'_>> {
    let (name, rest) = word(text)?;
    let rest = rest.strip_prefix(b"(")?;
    for end in [&b"<unfinished ...>"[..], b"<detached ...>"] {
        if let Some(arguments) = rest.strip_suffix(end) {
            return Some(What::Unfinished(name, arguments));
        }
    }
    Some(match remark_inside(rest) {
        Some(arguments) => What::Unfinished(name, arguments),
        None => What::Call(name, rest),
    })
}

/// What stands before strace's remark in the middle of a call: `vfork(strace: Process 1234 attached`.
fn remark_inside(text: &[u8]) -> Option<&[u8]> {
    let mark = b"strace: Process ";
    let end = text.strip_suffix(b" attached")?;
    let at = end.windows(mark.len()).position(|window| window == mark)?;
    Some(&text[..at])
}

/// Does the rest of the call, which is unfinished by a remark, begin the next line?
pub(super) fn is_cut(text: &[u8]) -> bool {
    text.trim_ascii_end().ends_with(b" attached")
}

fn remark(text: &[u8]) -> What<'_> {
    let known: [&[u8]; 3] = [b"strace: ", b"Process ", b"[ Process PID="];
    if known.iter().any(|start| text.starts_with(start)) {
        What::Remark
    } else {
        What::Unreadable
    }
}

/// A name, and what follows it.
fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let end = text.iter().position(|byte| !is_name(byte))?;
    (end > 0).then(|| text.split_at(end))
}

/// `[pid  1234] `
fn bracketed_pid(text: &[u8]) -> Option<(u32, &[u8])> {
    let rest = text.strip_prefix(b"[pid ")?.trim_ascii_start();
    let (pid, rest) = number(rest)?;
    let rest = without_command(rest).strip_prefix(b"]")?;
    Some((u32::try_from(pid).ok()?, rest))
}

/// The instruction pointer of `-i`, or the number of the call of `-n`.
fn brackets(text: &[u8]) -> Option<&[u8]> {
    let rest = text.strip_prefix(b"[")?;
    let end = rest.iter().position(|byte| *byte == b']')?;
    let known = |byte: &u8| byte.is_ascii_hexdigit() || *byte == b' ' || *byte == b'?';
    rest[..end].iter().all(known).then(|| &rest[end + 1..])
}

/// `1234 `: the pid that `-o` writes.
fn bare_pid(text: &[u8]) -> Option<(u32, &[u8])> {
    let (pid, rest) = number(text)?;
    let rest = without_command(rest).strip_prefix(b" ")?;
    Some((u32::try_from(pid).ok()?, rest))
}

/// Drops the name of the program that `-Y` adds to a pid: `1234<make>`, with any `>` in it escaped.
fn without_command(text: &[u8]) -> &[u8] {
    let after = text.strip_prefix(b"<").and_then(|rest| {
        let end = rest.iter().position(|byte| *byte == b'>')?;
        rest.get(end + 1..)
    });
    after.unwrap_or(text)
}

/// `12:34:56`, `12:34:56.123456`, `1700000000.123456`, `0.000123 (relative)`
fn clock(text: &[u8]) -> Option<(Time, &[u8])> {
    /// No trace was written before 1973, and none has a gap of three years.
    const YEARS: u64 = 100_000_000;
    let (mut seconds, mut rest) = number(text)?;
    let by_clock = rest.first() == Some(&b':');
    while let Some(after) = rest.strip_prefix(b":") {
        let (next, after) = number(after)?;
        seconds = seconds.checked_mul(60)?.checked_add(next)?;
        rest = after;
    }
    let mut fraction = 0;
    let has_fraction = rest.first() == Some(&b'.');
    if let Some(after) = rest.strip_prefix(b".") {
        let digits = after
            .iter()
            .position(|byte| !byte.is_ascii_digit())
            .unwrap_or(after.len());
        for place in 0..6 {
            let digit = after[..digits].get(place).map_or(0, |byte| byte - b'0');
            fraction = fraction * 10 + u64::from(digit);
        }
        rest = &after[digits..];
    }
    if !(by_clock || has_fraction) {
        return None;
    }
    let rest = without_difference(rest.strip_prefix(b" ")?);
    let micros = seconds.checked_mul(1_000_000)?.checked_add(fraction)?;
    let time = if by_clock || seconds > YEARS {
        Time::At(micros)
    } else {
        Time::After(micros)
    };
    Some((time, rest))
}

/// Drops what `-r` adds to the time of `-t`: `(+     0.000123)`.
fn without_difference(text: &[u8]) -> &[u8] {
    let after = text.strip_prefix(b"(+").and_then(|rest| {
        let end = rest.iter().position(|byte| *byte == b')')?;
        rest.get(end + 1..)
    });
    after.unwrap_or(text)
}

/// A decimal number, and what follows it.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    let digits = text[..end].iter().copied();
    let value = digits.map(|digit| u64::from(digit - b'0'));
    let add = |sum: u64, digit| sum.checked_mul(10)?.checked_add(digit);
    (end > 0)
        .then(|| value.clone().try_fold(0, add))?
        .map(|sum| (sum, &text[end..]))
}

/// What follows the quoted text, comment or path that begins at `at`; `at + 1` if nothing of that kind begins there.
#[inline]
pub(super) fn skip(text: &[u8], at: usize) -> usize {
    let end_of = |end: &[u8], from: usize| {
        let rest = text.get(from..).unwrap_or_default();
        let found = rest.windows(end.len()).position(|window| window == end);
        found.map_or(text.len(), |found| from + found + end.len())
    };
    match text[at] {
        b'"' => {
            let mut next = at + 1;
            while let Some(byte) = text.get(next) {
                match byte {
                    b'"' => return next + 1,
                    b'\\' => next += 2,
                    _ => next += 1,
                }
            }
            text.len()
        }
        b'/' if text.get(at + 1) == Some(&b'*') => end_of(b"*/", at + 2),
        // The path of a file descriptor, `3</etc/passwd>`, but no shift, `21<<MAP_HUGE_SHIFT`.
        b'<' if at > 0
            && text[at - 1].is_ascii_alphanumeric()
            && text.get(at + 1) != Some(&b'<') =>
        {
            end_of(b">", at + 1)
        }
        _ => at + 1,
    }
}

/// Splits the text of a call into its arguments and its outcome.
pub(super) fn split(text: &[u8]) -> Option<(&[u8], Outcome<'_>)> {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b')' if depth == 0 => return Some((&text[..at], outcome(&text[at + 1..])?)),
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at = skip(text, at);
    }
    None
}

/// ` = 0x7f0000000000`, ` = -1 ENOMEM (Cannot allocate memory)`, ` = ?`
fn outcome(text: &[u8]) -> Option<Outcome<'_>> {
    let text = text.trim_ascii_start().strip_prefix(b"=")?;
    let text = text.trim_ascii_start();
    if text.first() == Some(&b'?') {
        return Some(Outcome::Unknown);
    }
    if let Some(rest) = text.strip_prefix(b"-1 ") {
        let rest = rest.trim_ascii_start();
        return Some(Outcome::Failed(word(rest).map_or(rest, |(errno, _)| errno)));
    }
    if text == b"-1" {
        return Some(Outcome::Failed(b""));
    }
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_alphanumeric())
        .unwrap_or(text.len());
    super::values::number(&text[..end]).map(Outcome::Value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Line<'_> {
        parse(text.as_bytes())
    }

    #[test]
    fn every_prefix_is_read() {
        let call = What::Call(b"brk", b"NULL) = 0x5");
        let line = |pid, time| Line {
            pid,
            time,
            what: call,
        };
        assert_eq!(at("brk(NULL) = 0x5"), line(None, None));
        assert_eq!(at("77    brk(NULL) = 0x5"), line(Some(77), None));
        assert_eq!(at("[pid    77] brk(NULL) = 0x5"), line(Some(77), None));
        assert_eq!(at("77<a.out> brk(NULL) = 0x5"), line(Some(77), None));
        assert_eq!(
            at("[pid 77<make -j \\76>] brk(NULL) = 0x5"),
            line(Some(77), None)
        );
        let noon = Some(Time::At(43_200_000_000));
        assert_eq!(at("77 12:00:00 brk(NULL) = 0x5"), line(Some(77), noon));
        let later = Some(Time::At(43_200_000_012));
        assert_eq!(
            at("[pid 77] 12:00:00.000012 brk(NULL) = 0x5"),
            line(Some(77), later)
        );
        let epoch = Some(Time::At(1_700_000_000_500_000));
        assert_eq!(
            at("7 1700000000.500000 brk(NULL) = 0x5"),
            line(Some(7), epoch)
        );
        let relative = Some(Time::After(123));
        assert_eq!(at("     0.000123 brk(NULL) = 0x5"), line(None, relative));
        assert_eq!(
            at("7 12:00:00 (+     0.000123) brk(NULL) = 0x5"),
            line(Some(7), noon)
        );
        assert_eq!(
            at("7 [00007f7d5d81e4b9] brk(NULL) = 0x5"),
            line(Some(7), None)
        );
        assert_eq!(
            at("7 [  12] [????????????????] brk(NULL) = 0x5\r"),
            line(Some(7), None)
        );
    }

    #[test]
    fn every_kind_of_line_is_told() {
        assert_eq!(at("7 +++ exited with 0 +++").what, What::Exited);
        assert_eq!(
            at("7 +++ killed by SIGSEGV (core dumped) +++").what,
            What::Exited
        );
        assert_eq!(
            at("7 +++ superseded by execve in pid 9 +++").what,
            What::Superseded(9)
        );
        assert_eq!(
            at("7 --- SIGCHLD {si_signo=SIGCHLD} ---").what,
            What::Remark
        );
        assert_eq!(at("strace: Process 7 attached").what, What::Remark);
        assert_eq!(
            at(" > /usr/lib/libc.so.6(mmap+0x10) [0x1]").what,
            What::Remark
        );
        assert_eq!(at("").what, What::Remark);
        assert_eq!(
            at("7 munmap(0x1000, 4096 <unfinished ...>").what,
            What::Unfinished(b"munmap", b"0x1000, 4096 ")
        );
        assert_eq!(
            at("vfork(strace: Process 7 attached").what,
            What::Unfinished(b"vfork", b"")
        );
        assert_eq!(at(" <unfinished ...>").what, What::Remark);
        assert_eq!(
            at("[pid 7] <... munmap resumed>)   = 0").what,
            What::Resumed(b"munmap", b")   = 0")
        );
        for text in [
            "hello",
            "7",
            "+++ +++",
            "<... x",
            "99999999999999999999 brk(",
            "12:00",
        ] {
            assert_eq!(at(text).what, What::Unreadable, "{text}");
        }
    }

    #[test]
    fn arguments_end_where_they_end() {
        let read = |text: &'static str| split(text.as_bytes());
        assert_eq!(
            read(r#""a) = 1\"(", ["x", "y"...], 0x7 /* 3 vars) */) = 0"#),
            Some((
                br#""a) = 1\"(", ["x", "y"...], 0x7 /* 3 vars) */"#.as_slice(),
                Outcome::Value(0)
            ))
        );
        let (arguments, outcome) =
            read("NULL, 1, 3</tmp/a) = 2>, 21<<MAP_HUGE_SHIFT) = 0x10 <0.01>").expect("readable");
        assert_eq!(arguments, b"NULL, 1, 3</tmp/a) = 2>, 21<<MAP_HUGE_SHIFT");
        assert_eq!(outcome, Outcome::Value(0x10));
        let failed = |text| read(text).map(|(_, outcome)| outcome);
        assert_eq!(
            failed("0) = -1 ENOMEM (Cannot allocate memory)"),
            Some(Outcome::Failed(b"ENOMEM"))
        );
        assert_eq!(
            failed("0)          = ? <unavailable>"),
            Some(Outcome::Unknown)
        );
        assert_eq!(failed("0) = 0 (DELAYED)"), Some(Outcome::Value(0)));
        assert_eq!(read("0, 1"), None);
        assert_eq!(read("0) 5"), None);
        assert_eq!(read("\"unclosed) = 0"), None);
    }
}
