//! Whether an object makes memory system calls by instructions of its own, which no site covers.
//!
//! The bytes of a `syscall` with the number of such a call close before count in any case. Otherwise, if a `syscall` is an instruction
//! of a function, its number is followed through that function, in the order of the code; one that its caller gives, or that is not
//! understood, may be any.

use iced_x86::{
    FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};

use super::find::{MOV_EAX, SYSCALL, decoder};
use super::gate;
use crate::live::sites::objects::{Object, bytes};

/// Does the object, which is not unloaded meanwhile, make memory system calls itself?
pub(in crate::live) fn has_calls(object: &Object) -> bool {
    object.code.iter().any(|code| {
        // SAFETY: The caller's promise.
        #[expect(unsafe_code, reason = "reads code")]
        let text = unsafe { bytes(code) };
        let places = text.windows(2).enumerate();
        places
            .filter(|(_, two)| *two == SYSCALL)
            .any(|(at, _)| has_number_before(&text[..at]) || may_be_memory(object, code.start + at))
    })
}

/// Does `text`, which ends in front of a `syscall`, end in `mov $number, %eax` and not much more?
fn has_number_before(text: &[u8]) -> bool {
    /// Also what is not next to it.
    const NEAR: usize = 22;
    /// Of another register.
    const PREFIX: u8 = 0x40;
    let text = &text[text.len().saturating_sub(NEAR)..];
    text.windows(5).enumerate().any(|(at, place)| {
        let number = u32::from_le_bytes([place[1], place[2], place[3], place[4]]);
        place[0] == MOV_EAX
            && (at == 0 || text[at - 1] & 0xf0 != PREFIX)
            && gate::is_memory(number as usize)
    })
}

/// May the `syscall` at `address` be a memory system call? Not if no function has such an instruction there.
fn may_be_memory(object: &Object, address: usize) -> bool {
    let Some(start) = object.function_of(address) else {
        return false;
    };
    // SAFETY: Code of the object, from one of its functions on.
    #[expect(unsafe_code, reason = "reads code")]
    let function = unsafe { bytes(&(start..address)) };
    let mut decoder = decoder(function, start);
    let mut known = Constants::default();
    let mut info = InstructionInfoFactory::new();
    let mut instruction = Instruction::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        if instruction.is_invalid() {
            return false;
        }
        known.run(&instruction, &mut info);
    }
    known.registers[RAX].is_none_or(|number| gate::is_memory(number as usize))
}

const RAX: usize = 0;

/// What registers hold, as far as it is known, in the order of the code.
#[derive(Default)]
struct Constants {
    registers: [Option<u64>; 16],
    /// What was pushed last.
    pushed: Option<u64>,
}

impl Constants {
    fn run(&mut self, instruction: &Instruction, info: &mut InstructionInfoFactory) {
        let value = self.result(instruction);
        // The end of a function gives back what its caller had there; what follows is reached with what was there before.
        let restores = instruction.mnemonic() == Mnemonic::Pop && value.is_none();
        for used in info.info(instruction).used_registers() {
            let reads = matches!(
                used.access(),
                OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
            );
            if !reads && !restores {
                self.set(used.register(), None);
            }
        }
        // A function may change more; but what follows its call is reached from elsewhere, too, and mostly does not rely on it.
        let calls = [FlowControl::Call, FlowControl::IndirectCall];
        if calls.contains(&instruction.flow_control()) {
            self.registers[RAX] = None;
        }
        if instruction.mnemonic() == Mnemonic::Push {
            self.pushed = value;
        } else if value.is_some() && instruction.op0_kind() == OpKind::Register {
            self.set(instruction.op0_register(), value);
        }
        if instruction.mnemonic() == Mnemonic::Pop {
            self.pushed = None;
        }
    }

    /// Part of a register is not known.
    fn set(&mut self, register: Register, value: Option<u64>) {
        if register.is_gpr() {
            let whole = register.is_gpr32() || register.is_gpr64();
            self.registers[register.full_register().number()] = value.filter(|_| whole);
        }
    }

    /// What the instruction moves, if it moves what is known.
    fn result(&self, instruction: &Instruction) -> Option<u64> {
        match instruction.mnemonic() {
            Mnemonic::Mov => self.operand(instruction, 1),
            Mnemonic::Push => self.operand(instruction, 0),
            Mnemonic::Pop => self.pushed,
            Mnemonic::Xor if instruction.op0_register() == instruction.op1_register() => Some(0),
            _ => None,
        }
    }

    fn operand(&self, instruction: &Instruction, operand: u32) -> Option<u64> {
        match instruction.op_kind(operand) {
            OpKind::Register if instruction.op_register(operand).is_gpr() => {
                self.registers[instruction.op_register(operand).full_register().number()]
            }
            OpKind::Register | OpKind::Memory => None,
            _ => instruction.try_immediate(operand).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has a function with this code, and then a `syscall`, a call that counts?
    fn counts(code: &[u8]) -> bool {
        let code = [code, &SYSCALL, &[0xc3]].concat();
        let start = code.as_ptr().expose_provenance();
        let code = start..start + code.len();
        has_calls(&Object {
            name: Vec::new(),
            base: 0,
            functions: vec![start],
            code: vec![code],
        })
    }

    #[test]
    fn a_number_is_followed_to_its_call() {
        // mov $number, %eax
        assert!(counts(&[0xb8, 11, 0, 0, 0]));
        assert!(!counts(&[0xb8, 39, 0, 0, 0]));
        // push $number; pop %rax
        assert!(counts(&[0x6a, 11, 0x58]));
        assert!(!counts(&[0x6a, 39, 0x58]));
        // mov $number, %rax
        assert!(counts(&[0x48, 0xc7, 0xc0, 11, 0, 0, 0]));
        assert!(!counts(&[0x48, 0xc7, 0xc0, 39, 0, 0, 0]));
        // mov $number, %edx; mov %edx, %eax
        assert!(counts(&[0xba, 11, 0, 0, 0, 0x89, 0xd0]));
        assert!(!counts(&[0xba, 39, 0, 0, 0, 0x89, 0xd0]));
        // xor %eax, %eax: read
        assert!(!counts(&[0x31, 0xc0]));
    }

    #[test]
    fn a_number_that_is_not_known_may_be_any() {
        // mov %rdi, %rax: the caller's
        assert!(counts(&[0x48, 0x89, 0xf8]));
        // mov $39, %eax; mov $11, %al
        assert!(counts(&[0xb8, 39, 0, 0, 0, 0xb0, 11]));
        // Followed in the order of the code: mov $39, %ebp; pop %rbp; ret; mov %ebp, %eax
        assert!(!counts(&[0xbd, 39, 0, 0, 0, 0x5d, 0xc3, 0x89, 0xe8]));
        // mov $39, %ebp; syscall; mov %ebp, %eax: kept; by %ecx: not kept
        assert!(!counts(&[
            0xbd, 39, 0, 0, 0, 0x89, 0xe8, 0x0f, 0x05, 0x89, 0xe8
        ]));
        assert!(counts(&[
            0xb9, 39, 0, 0, 0, 0x89, 0xc8, 0x0f, 0x05, 0x89, 0xc8
        ]));
    }

    #[test]
    fn bytes_inside_an_instruction_are_no_call() {
        // mov $0x050f0000, %eax; and the rest of the code is none either: mov $..., %edi
        let code = [0xb8, 0, 0, 0x0f, 0x05, 0xbf, 0, 0];
        assert!(!counts(&code));
    }
}
