// SPDX-License-Identifier: MIT OR Apache-2.0
//! Callbacks: their names, their arguments, and who has them.

use std::future::Future;
use std::pin::Pin;

/// A callback, by the name of its member in the ops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the members of the ops structs")]
pub enum Op {
    Release,
    ClearFlushYoung,
    ClearYoung,
    TestYoung,
    ChangePte,
    Start,
    End,
    Tlb,
    Alloc,
    Free,
    Invalidate,
}

/// How many kinds of callbacks there are.
pub const OPS: usize = 11;

impl Op {
    /// All of them, in order.
    pub const ALL: [Self; OPS] = [
        Self::Release,
        Self::ClearFlushYoung,
        Self::ClearYoung,
        Self::TestYoung,
        Self::ChangePte,
        Self::Start,
        Self::End,
        Self::Tlb,
        Self::Alloc,
        Self::Free,
        Self::Invalidate,
    ];
}

/// An ops struct: its address (any number), and the members that are not NULL, a bit for each [`Op`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ops {
    /// Identity of the struct.
    pub id: usize,
    /// `1 << Op`.
    pub members: u16,
}

impl Ops {
    /// Is the member set?
    pub fn has(self, op: Op) -> bool {
        self.members & (1 << op as u16) != 0
    }
}

/// MMU_NOTIFIER_RANGE_BLOCKABLE.
pub const BLOCKABLE: u32 = 1;
/// MMU_NOTIFY_RELEASE.
pub const EVENT_RELEASE: i32 = 5;
/// What an object's memory holds before it is used.
pub const POISON: u64 = 0x5a5a_5a5a_5a5a_5a5a;

pub(super) const EAGAIN: i64 = 11;
pub(super) const EINVAL: i64 = 22;
pub(super) const EOVERFLOW: i64 = 75;

/// struct mmu_notifier_range.
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "the members of the struct")]
pub struct Range {
    pub mm: usize,
    pub start: u64,
    pub end: u64,
    pub flags: u32,
    pub event: i32,
    pub owner: u64,
}

impl Range {
    /// 1.3: bit 0.
    pub fn blockable(&self) -> bool {
        self.flags & BLOCKABLE != 0
    }

    /// RS-9: in unsigned arithmetic.
    pub(super) fn last(&self) -> u64 {
        self.end.wrapping_sub(1)
    }
}

/// What a callback is called with, beside its subscriber.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the parameters of the ops")]
pub enum Args {
    Mm { mm: usize },
    Span { mm: usize, start: u64, end: u64 },
    Address { mm: usize, address: u64 },
    Pte { mm: usize, address: u64, pte: u64 },
    Range { range: Range, cur_seq: u64 },
}

/// A callback of the subscriber `subject`: an interval's number for [`Op::Invalidate`], else a list subscriber's.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "see above")]
pub struct Call {
    pub op: Op,
    pub subject: usize,
    pub args: Args,
}

/// Something that may sleep.
pub type Sleepy<T> = Pin<Box<dyn Future<Output = T>>>;

/// The code of drivers.
pub trait Driver {
    /// Runs a callback.
    fn call(&self, call: Call) -> Sleepy<i64>;
    /// alloc_notifier: a subscriber's number or an error.
    fn alloc(&self, ops: Ops, mm: usize) -> Sleepy<Result<usize, i64>>;
    /// free_notifier.
    fn free(&self, subject: usize);
}
