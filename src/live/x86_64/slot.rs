//! Slots: what a patched site jumps to. They lie within 2 GiB of their site, on pages that are executable and never written
//! again, and never unmapped: a thread may be in one at any time, also long after the site was given back.
//!
//! ```text
//! site:   mov $number, %eax       becomes   jmp slot
//!         [middle]
//!         syscall
//! after:
//!
//! slot:   mov $number, %eax       as it was at the site
//!         [middle]                as it is at the site
//!         lea -128(%rsp), %rsp    the red zone of the caller
//!         call *gate              see `gate`
//!         lea 128(%rsp), %rsp     leaves CF as it is
//!         jc the site's syscall   gate had nothing to do with it: it is made where it always was
//!         jmp after
//!         .quad after             for who unwinds from `gate`
//! ```
//!
//! Calls and returns are paired and jumps are direct, so that a shadow stack and branch tracking have nothing to say.

use super::find::{MIDDLE, Site};

/// How far behind the call of the gate a slot has the address of what is behind its site.
pub(in crate::live) const AFTER: usize = 19;

/// Bytes for each slot.
pub(in crate::live) const SIZE: usize = 64;

/// The 5 bytes that a site has while it is ours, if the slot is near enough.
pub(in crate::live) fn jump(site: usize, slot: usize) -> Option<[u8; 5]> {
    let distance = displacement(site + 5, slot)?;
    let [a, b, c, d] = distance.to_le_bytes();
    Some([0xe9, a, b, c, d])
}

fn displacement(from: usize, to: usize) -> Option<i32> {
    i32::try_from(to.wrapping_sub(from) as isize).ok()
}

/// Code, and where it will be.
struct Code {
    bytes: [u8; SIZE],
    length: usize,
    address: usize,
}

impl Code {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    /// An instruction that ends in the distance to `target`.
    fn put_with_distance(&mut self, opcode: &[u8], target: usize) -> Option<()> {
        self.put(opcode);
        let distance = displacement(self.address + self.length + 4, target)?;
        self.put(&distance.to_le_bytes());
        Some(())
    }
}

/// The slot of `site` at `address`; `gate` is where the address of the gate's entry is stored. None if something is too far away.
pub(in crate::live) fn encode(site: &Site, address: usize, gate: usize) -> Option<[u8; SIZE]> {
    // What is put besides the middle is 43 bytes.
    const { assert!(43 + MIDDLE <= SIZE) };
    let mut code = Code {
        bytes: [0xcc; SIZE],
        length: 0,
        address,
    };
    code.put(&site.original);
    code.put(&site.middle[..site.middle_length]);
    code.put(&[0x48, 0x8d, 0x64, 0x24, 0x80]);
    code.put_with_distance(&[0xff, 0x15], gate)?;
    code.put(&[0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0]);
    code.put_with_distance(&[0x0f, 0x82], site.syscall())?;
    code.put_with_distance(&[0xe9], site.after())?;
    code.put(&site.after().to_ne_bytes());
    Some(code.bytes)
}
