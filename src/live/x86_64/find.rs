//! Sites: `mov $number, %eax` with its `syscall` close behind, in the code of libc and of the dynamic linker; and the one of
//! `syscall()`, whose number is its caller's.
//!
//! A site is the 5-byte instruction before the `syscall`. It is taken only if decoding from the start of its function arrives
//! at it (bytes that look like it may be the middle of another instruction), and if what stands between it and the `syscall`
//! can run elsewhere.

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, OpKind, Register};

use super::gate;
use crate::live::sites::objects::{Object, bytes};

/// Room for what stands between.
pub(in crate::live) const MIDDLE: usize = 16;

/// A place that can be patched.
#[derive(Clone, Copy, Debug)]
pub(in crate::live) struct Site {
    /// Its address.
    pub address: usize,
    /// What it holds when nobody has patched it.
    pub original: [u8; 5],
    /// What follows up to the `syscall`.
    pub middle: [u8; MIDDLE],
    /// How much that is.
    pub middle_length: usize,
    /// The number of its system call. None: its caller's.
    pub number: Option<usize>,
}

impl Site {
    /// Where its system call is.
    pub(in crate::live) fn syscall(&self) -> usize {
        self.address + self.original.len() + self.middle_length
    }

    /// Where it goes on after the system call.
    pub(in crate::live) fn after(&self) -> usize {
        self.syscall() + SYSCALL.len()
    }
}

pub(super) const MOV_EAX: u8 = 0xb8;
pub(super) const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// `mov 8(%rsp), %r9; syscall`: the last of six arguments, in `syscall()`.
const GENERIC: [u8; 7] = [0x4c, 0x8b, 0x4c, 0x24, 0x08, 0x0f, 0x05];
/// Somebody else's jump.
const JUMP: u8 = 0xe9;
const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

/// All sites of `object`.
pub(in crate::live) fn sites(object: &Object) -> Vec<Site> {
    let mut found = Vec::new();
    for code in &object.code {
        // SAFETY: Who keeps a site has seen to it that the object stays loaded.
        #[expect(unsafe_code, reason = "reads code")]
        let text = unsafe { bytes(code) };
        for offset in 0..text.len().saturating_sub(GENERIC.len()) {
            let place = &text[offset..];
            if place[0] != MOV_EAX && place[..GENERIC.len()] != GENERIC {
                continue;
            }
            if let Some(site) = site_at(object, code.start + offset, place) {
                found.push(site);
            }
        }
    }
    found
}

fn site_at(object: &Object, address: usize, place: &[u8]) -> Option<Site> {
    let original: [u8; 5] = place[..5].try_into().ok()?;
    let number = if original[0] == MOV_EAX {
        let number = u32::from_le_bytes(original[1..].try_into().ok()?) as usize;
        if !gate::is_known(number) {
            return None;
        }
        Some(number)
    } else {
        None
    };
    let reach = &place[5..place.len().min(5 + MIDDLE + SYSCALL.len())];
    let middle_length = reach.windows(2).position(|two| two == SYSCALL)?;
    let mut middle = [0; MIDDLE];
    middle[..middle_length].copy_from_slice(&reach[..middle_length]);
    let site = Site {
        address,
        original,
        middle,
        middle_length,
        number,
    };
    let tail = &place[..place.len().min(5 + middle_length + 2 + 16)];
    (is_reached(object, address, site.original.len())
        && can_move(&site)
        && !ends_thread(tail, &site))
    .then_some(site)
}

pub(super) fn decoder(bytes: &[u8], address: usize) -> Decoder<'_> {
    Decoder::with_ip(64, bytes, address as u64, DecoderOptions::NONE)
}

/// Does the function that contains `address` have an instruction of `length` bytes there?
fn is_reached(object: &Object, address: usize, length: usize) -> bool {
    let Some(start) = object.function_of(address) else {
        return false;
    };
    // SAFETY: Code of the object, from one of its functions on.
    #[expect(unsafe_code, reason = "reads code")]
    let function = unsafe { bytes(&(start..address + length)) };
    let mut decoder = decoder(function, start);
    let mut instruction = Instruction::default();
    while decoder.can_decode() && decoder.ip() < address as u64 {
        decoder.decode_out(&mut instruction);
    }
    decoder.ip() == address as u64 && decoder.decode().len() == length
}

/// Can what stands between the site and its `syscall` run in a slot, and does nothing jump out of it or change the number?
fn can_move(site: &Site) -> bool {
    let middle = &site.middle[..site.middle_length];
    let mut decoder = decoder(middle, site.address + site.original.len());
    while decoder.can_decode() {
        let instruction = decoder.decode();
        let writes_number = instruction.op_count() > 0
            && instruction.op_kind(0) == OpKind::Register
            && instruction.op_register(0).full_register() == Register::RAX;
        if instruction.is_invalid()
            || instruction.flow_control() != FlowControl::Next
            || instruction.is_ip_rel_memory_operand()
            || instruction.is_stack_instruction()
            || writes_number
        {
            return false;
        }
    }
    true
}

/// Does a thread end right behind the call? Then the call takes its stack away (musl's `__unmapself`), and nothing could come
/// back from a slot.
fn ends_thread(tail: &[u8], site: &Site) -> bool {
    let behind = &tail[(site.after() - site.address).min(tail.len())..];
    let mut decoder = decoder(behind, site.after());
    for _ in 0..4 {
        if !decoder.can_decode() {
            return false;
        }
        let instruction = decoder.decode();
        match instruction.code() {
            Code::Syscall => return true,
            _ if instruction.flow_control() != FlowControl::Next => return false,
            _ => {}
        }
    }
    false
}

/// Where somebody else has put a jump in place of a system call, or at the beginning of a function that makes one, so that it is made
/// elsewhere.
pub(in crate::live) fn foreign(object: &Object) -> Vec<usize> {
    const LONGEST: usize = 32;
    let whole = |start: &&usize| {
        object
            .code
            .iter()
            .any(|code| code.contains(start) && code.contains(&(**start + LONGEST)))
    };
    let functions = object.functions.iter().filter(whole);
    let mut found: Vec<usize> = functions
        .copied()
        .filter(|start| {
            // SAFETY: libc and the dynamic linker stay loaded.
            #[expect(unsafe_code, reason = "reads code")]
            let code = unsafe { bytes(&(*start..*start + LONGEST)) };
            is_foreign(code)
        })
        .collect();
    let inside = jumps_over_number(object);
    let known = |place: usize| {
        object
            .function_of(place)
            .is_some_and(|start| found.contains(&start))
    };
    let others: Vec<usize> = inside.into_iter().filter(|place| !known(*place)).collect();
    found.extend(others);
    found
}

/// Jumps out of the object that stand right before a `syscall`.
fn jumps_over_number(object: &Object) -> Vec<usize> {
    let mut found = Vec::new();
    for code in &object.code {
        // SAFETY: As above.
        #[expect(unsafe_code, reason = "reads code")]
        let text = unsafe { bytes(code) };
        let places = text.windows(GENERIC.len()).enumerate();
        let jumps = places.filter(|(_, place)| place[0] == JUMP && place[5..] == SYSCALL);
        found.extend(
            jumps
                .map(|(offset, _)| code.start + offset)
                .filter(|place| {
                    let leaves = jump_at(*place).is_some_and(|jump| !object.contains(jump.target));
                    leaves && is_reached(object, *place, 5)
                }),
        );
    }
    found
}

/// Does a function begin with somebody's jump over a system call?
fn is_foreign(code: &[u8]) -> bool {
    let code = code.strip_prefix(&ENDBR64).unwrap_or(code);
    let has_call = |at: usize| code[at..at + 2] == SYSCALL;
    // Over the number; or over `endbr64` and a part of it.
    let near = code[0] == JUMP && (has_call(5) || has_call(9));
    near || is_far(code)
}

/// Is it `mov $address, %rax; jmp *%rax`, or the same by %r11?
fn is_far(code: &[u8]) -> bool {
    (code[..2] == [0x48, 0xb8] && code[10..12] == [0xff, 0xe0])
        || (code[..2] == [0x49, 0xbb] && code[10..13] == [0x41, 0xff, 0xe3])
}

/// The jump that code at `place` begins with.
#[derive(Clone, Copy, Debug)]
pub(in crate::live) struct Jump {
    /// Behind an `endbr64`, perhaps.
    pub place: usize,
    pub target: usize,
}

/// Where code at `place` jumps to, if that is the first thing that it does.
pub(in crate::live) fn jump_at(place: usize) -> Option<Jump> {
    const LONGEST: usize = 32;
    // SAFETY: Code of libc or of the dynamic linker, which stay loaded, and end in more than that.
    #[expect(unsafe_code, reason = "reads code")]
    let code = unsafe { bytes(&(place..place + LONGEST)) };
    let skipped = if code.starts_with(&ENDBR64) {
        ENDBR64.len()
    } else {
        0
    };
    let (place, code) = (place + skipped, &code[skipped..]);
    let target = if code[0] == JUMP {
        let distance = i32::from_le_bytes(code[1..5].try_into().ok()?);
        (place + 5).wrapping_add_signed(distance as isize)
    } else if is_far(code) {
        usize::from_le_bytes(code[2..10].try_into().ok()?)
    } else {
        return None;
    };
    Some(Jump { place, target })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten bytes of nothing: the finder looks no closer to the end.
    const REST: [u8; 10] = [0xcc; 10];

    /// The numbers that are found in the function of which `code` is all that is known.
    fn numbers(code: core::ops::Range<usize>) -> Vec<Option<usize>> {
        let object = Object {
            name: Vec::new(),
            base: 0,
            functions: vec![code.start],
            code: vec![code],
        };
        sites(&object).iter().map(|site| site.number).collect()
    }

    fn numbers_in(code: &[u8]) -> Vec<Option<usize>> {
        let code = [code, &REST].concat();
        let start = code.as_ptr().expose_provenance();
        numbers(start..start + code.len())
    }

    /// `mov $11, %eax; syscall`: munmap.
    const MUNMAP: [u8; 7] = [0xb8, 11, 0, 0, 0, 0x0f, 0x05];

    #[test]
    fn a_number_with_its_call_is_a_site() {
        let returns = [0xc3];
        let found = numbers_in(&[&MUNMAP[..], &returns].concat());
        assert_eq!(found, [Some(11)]);
    }

    #[test]
    fn a_call_behind_which_the_thread_ends_is_none() {
        // xor %edi, %edi; mov $60, %eax; syscall
        let exits = [0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05];
        let found = numbers_in(&[&MUNMAP[..], &exits].concat());
        assert!(found.is_empty(), "{found:?}");
    }

    #[cfg(target_env = "musl")]
    mod musl {
        use super::*;
        use crate::live::sites;
        use crate::live::status::Reason;

        #[expect(unsafe_code, reason = "names of musl, for their addresses only")]
        unsafe extern "C" {
            fn __unmapself();
        }

        fn code_of(function: *const ()) -> core::ops::Range<usize> {
            const LENGTH: usize = 64;
            let start = function.expose_provenance();
            start..start + LENGTH
        }

        #[test]
        fn the_end_of_a_thread_is_left_alone() {
            let code = code_of(__unmapself as *const ());
            // SAFETY: Code of this program.
            #[expect(unsafe_code, reason = "reads code")]
            let text = unsafe { bytes(&(code.start..code.start + MUNMAP.len())) };
            assert_eq!(text, MUNMAP, "it would be a site if no thread ended there");
            assert!(!numbers(code.start..code.start + 24).contains(&Some(11)));
        }

        #[test]
        fn munmap_would_be_a_site() {
            let found = numbers(code_of(libc::munmap as *const ()));
            assert_eq!(found.first(), Some(&Some(11)), "{found:?}");
        }

        #[test]
        fn syscall_would_not_and_so_musl_is_refused() {
            let found = numbers(code_of(libc::syscall as *const ()));
            assert!(!found.contains(&None), "{found:?}");
            assert!(matches!(sites::find(), Err(Reason::Libc)));
        }
    }
}
