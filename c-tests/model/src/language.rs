// SPDX-License-Identifier: MIT OR Apache-2.0
//! The language of the conformance programs (../conformance/README.md): lines, numbers, sets of callbacks.
//!
//! Every program that mnrun runs can be read here, and every program that is generated here can be run by mnrun.

use crate::contract::{OPS, Op, Ops};

/// What mnrun calls the callbacks, in the order of [`Op`].
const NAMES: [&str; OPS] = [
    "rel", "cfy", "cy", "ty", "cpte", "start", "end", "tlb", "alloc", "free", "inv",
];

/// How many slots of each kind mnrun has.
pub const MMS: usize = 16;
/// `n`, `h` and `i`.
pub const SLOTS: usize = 128;
/// `o` and `p`.
pub const SETS: usize = 64;
/// `r`.
pub const RANGES: usize = 64;
/// `k`.
pub const TOKENS: usize = 64;
/// `g`.
pub const GATES: usize = 16;
/// `t`.
pub const THREADS: usize = 10;
const VALUES: usize = 8;
const ARGUMENTS: usize = 12;

/// What is wrong with a line that mnrun would not read.
pub type Bad = String;

macro_rules! verbs {
    ($($verb:ident $name:literal $count:literal,)*) => {
        /// The operations.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "../conformance/README.md")]
        pub enum Verb { $($verb),* }

        impl Verb {
            /// By its name, with the number of its arguments; -1 for one or more.
            fn of(name: &str) -> Option<(Self, i32)> {
                match name {
                    $($name => Some((Self::$verb, $count)),)*
                    _ => None,
                }
            }
        }
    };
}

verbs! {
    Ops "ops" -1, Iops "iops" -1, Open "open" 1, Close "close" 1,
    Mm "mm" 1, Mmget "mmget" 1, MmgetNz "mmget_nz" 1, Mmput "mmput" 1, Mmgrab "mmgrab" 1, Mmdrop "mmdrop" 1,
    Lock "lock" 2, Unlock "unlock" 1,
    Reg "reg" 3, RegLocked "reg_locked" 3, Unreg "unreg" 1, Nput "nput" 1,
    Get "get" 3, GetLocked "get_locked" 3, Put "put" 1, Getmax "getmax" 1, Sync "sync" 0,
    Iins "iins" 5, IinsLocked "iins_locked" 5, Irem "irem" 1,
    Start "start" 7, StartNb "start_nb" 7, End "end" 1,
    Cfy "cfy" 3, Cy "cy" 3, Tlb "tlb" 3, Ty "ty" 2, Cpte "cpte" 3,
    Has "has" 1, Counts "counts" 1, Rb "rb" 2, Rr "rr" 1, Cr "cr" 1,
}

impl Verb {
    /// Does the caller hold mmap_lock already, or take it for the call?
    pub fn is_locked_form(self) -> bool {
        matches!(self, Self::RegLocked | Self::GetLocked | Self::IinsLocked)
    }

    /// Does it make no call?
    pub fn is_local(self) -> bool {
        matches!(self, Self::Ops | Self::Iops | Self::Open | Self::Close)
    }
}

/// A line of a program.
#[derive(Clone, Debug)]
pub struct Line {
    /// `tK:`
    pub thread: Option<usize>,
    /// `!`
    pub forced: bool,
    /// What to do.
    pub verb: Verb,
    /// With what.
    pub args: Vec<String>,
    /// As the trace shows it.
    pub text: String,
}

impl Line {
    /// Reads a line. `None`: it is empty, or a comment.
    ///
    /// # Errors
    /// mnrun would not read it.
    pub fn parse(source: &str) -> Result<Option<Self>, Bad> {
        let source = source.split('#').next().unwrap_or("");
        let mut words = source.split_whitespace().peekable();
        let Some(first) = words.peek() else {
            return Ok(None);
        };
        let mut thread = None;
        if let [b't', digit @ b'0'..=b'9', b':'] = first.as_bytes() {
            thread = Some(usize::from(digit - b'0'));
            words.next();
        }
        let name = words.next().ok_or("line")?;
        let forced = name.ends_with('!');
        let (verb, count) = Verb::of(name.trim_end_matches('!')).ok_or(name)?;
        let args: Vec<String> = words.take(ARGUMENTS).map(str::to_owned).collect();
        let prefix = thread.map_or(String::new(), |t| format!("t{t}: "));
        let mut text = format!("{prefix}{name}");
        for arg in &args {
            text.push(' ');
            text.push_str(&arg[..arg.len().min(60)]);
        }
        let given = i32::try_from(args.len()).unwrap_or(i32::MAX);
        if if count >= 0 {
            given != count
        } else {
            given < 1
        } {
            return Err(text);
        }
        Ok(Some(Self {
            thread,
            forced,
            verb,
            args,
            text,
        }))
    }
}

/// A C number: decimal, hex, octal; `max` is ULONG_MAX, `max-5` five less.
pub fn number(text: &str) -> u64 {
    if let Some(rest) = text.strip_prefix("max") {
        return u64::MAX.wrapping_sub(rest.strip_prefix('-').map_or(0, number));
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.strip_prefix("0x") {
        Some(hexadecimal) => (16, hexadecimal),
        None if lower.starts_with('0') => (8, lower.as_str()),
        None => (10, lower.as_str()),
    };
    let valid = digits
        .find(|c: char| !c.is_digit(radix))
        .unwrap_or(digits.len());
    let value = match &digits[..valid] {
        "" => 0,
        digits => u64::from_str_radix(digits, radix).unwrap_or(u64::MAX),
    };
    if negative {
        value.wrapping_neg()
    } else {
        value
    }
}

/// `n5` or `5` -> 5; `None` if it is no number below the limit.
pub fn index(text: &str, prefix: char, limit: usize) -> Option<usize> {
    let digits = text.strip_prefix(prefix).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|value| *value < limit)
}

/// Values that are used in turn.
#[derive(Clone, Debug, Default)]
pub struct Returns {
    /// None: a default.
    pub values: Vec<i64>,
    at: usize,
}

impl Returns {
    fn parse(text: &str) -> Self {
        let values = text.split(',').filter(|value| !value.is_empty());
        Self {
            values: values
                .take(VALUES)
                .map(|value| number(value) as i64)
                .collect(),
            at: 0,
        }
    }

    /// The next one.
    pub fn next(&mut self, default: i64) -> i64 {
        if self.values.is_empty() {
            return default;
        }
        self.at += 1;
        self.values[(self.at - 1) % self.values.len()]
    }
}

/// What a callback does beside its answer.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// Puts its own subscriber.
    Put,
    /// Inserts an interval.
    Insert {
        /// Slot.
        i: usize,
        /// Set of callbacks.
        p: usize,
        /// First byte.
        start: u64,
        /// Bytes.
        length: u64,
    },
}

impl Act {
    fn parse(text: &str) -> Result<Self, Bad> {
        let words: Vec<&str> = text.split(':').collect();
        match words[..] {
            ["put"] => Ok(Self::Put),
            ["iins", i, start, length, p] => Ok(Self::Insert {
                i: index(i, 'i', SLOTS).ok_or("act iins")?,
                p: index(p, 'p', SETS).ok_or("act iins")?,
                start: number(start),
                length: number(length),
            }),
            _ => Err("act".to_owned()),
        }
    }
}

/// A set of callbacks and how they behave.
#[derive(Clone, Debug)]
pub struct OpSet {
    /// The members that are set; `id` is the slot.
    pub ops: Ops,
    /// What each returns.
    pub returns: [Returns; OPS],
    /// What start and invalidate return when the range is blockable.
    pub blockable_returns: Returns,
    /// The gate that each waits at.
    pub gate: [Option<usize>; OPS],
    /// What each does.
    pub act: [Option<Act>; OPS],
    /// Does invalidate call set_seq when it returns true?
    pub sets_seq: bool,
    /// ... and when it returns false?
    pub sets_seq_on_false: bool,
}

fn callback(name: &str) -> Result<Op, Bad> {
    let at = NAMES.iter().position(|known| *known == name);
    at.map(|at| Op::ALL[at])
        .ok_or_else(|| "callback name".to_owned())
}

impl OpSet {
    /// Reads the words of an `ops` or `iops` line.
    ///
    /// # Errors
    /// mnrun would not read it.
    pub fn parse(id: usize, interval: bool, words: &[String]) -> Result<Self, Bad> {
        let mut set = Self {
            ops: Ops { id, members: 0 },
            returns: Default::default(),
            blockable_returns: Returns::default(),
            gate: [None; OPS],
            act: [None; OPS],
            sets_seq: true,
            sets_seq_on_false: false,
        };
        if interval {
            set.ops.members = 1 << Op::Invalidate as u16;
        }
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            set.word(interval, key, value)?;
        }
        Ok(set)
    }

    fn word(&mut self, interval: bool, key: &str, value: &str) -> Result<(), Bad> {
        match key {
            "bstart" => self.blockable_returns = Returns::parse(value),
            "b" if interval => self.blockable_returns = Returns::parse(value),
            "nb" if interval => self.returns[Op::Invalidate as usize] = Returns::parse(value),
            "set" if interval => self.sets_seq = value.starts_with('1'),
            "setf" if interval => self.sets_seq_on_false = value.starts_with('1'),
            "gate" => {
                let (name, gate) = value.split_once(':').ok_or("gate")?;
                let gate = index(gate, 'g', GATES).ok_or("gate")?;
                self.gate[callback(name)? as usize] = Some(gate);
            }
            "act" => {
                let (name, act) = value.split_once(':').ok_or("act")?;
                self.act[callback(name)? as usize] = Some(Act::parse(act)?);
            }
            _ => {
                let op = callback(key)?;
                self.ops.members |= 1 << op as u16;
                self.returns[op as usize] = Returns::parse(value);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_c() {
        let cases = [
            ("0", 0),
            ("12", 12),
            ("0x1f", 31),
            ("010", 8),
            ("max", u64::MAX),
            ("max-5", u64::MAX - 5),
        ];
        for (text, value) in cases {
            assert_eq!(number(text), value, "{text}");
        }
        assert_eq!(number("-11") as i64, -11);
    }

    #[test]
    fn a_line_is_read_and_printed() {
        let line = Line::parse(" t3: start_nb! r1  m0 0 max 3 1 - # x")
            .unwrap()
            .unwrap();
        assert_eq!(
            (line.thread, line.forced, line.verb),
            (Some(3), true, Verb::StartNb)
        );
        assert_eq!(line.text, "t3: start_nb! r1 m0 0 max 3 1 -");
        assert!(Line::parse("  # nothing").unwrap().is_none());
        assert!(Line::parse("start r1").is_err());
    }
}
