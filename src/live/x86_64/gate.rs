//! Where patched sites come out: from a slot (`slot`), with the registers as they were at the `syscall` instruction.
//!
//! The kernel changes rax, rcx and r11 only, and compilers rely on it: so does a call of `gate`, whatever it does. The red zone is
//! skipped by the slot. CF tells the slot what is left to do: set, it makes the system call itself, with everything as it
//! was; clear, the result is in rax.
//!
//! Most sites have one number for good, so they enter behind the look at it (`Entry`). That is not for its nanosecond: a processor that takes
//! a page fault has run ahead into what comes behind it, and if that was a branch it did not foresee, the fault is a third dearer (M9
//! in docs/performance.md). For the same reason a range within one block is looked at without a loop.
//!
//! What nobody watches is decided here, without a change of any other register. It is the machine code of `mm::calls::Call` (look there
//! for why): enter the section, look at the hull and then at the blocks, make the call, leave. Everything else saves the vector registers and goes on
//! in `hook`. So do calls of a thread that has no record yet, holds a lock of the library, or is in a section or a callback.
#![expect(unsafe_code, reason = "machine code")]

use core::arch::global_asm;
use core::mem::offset_of;

use super::slot;
use crate::live::events::hook::{AWAY, MASK, after_awaited, hook};
use crate::live::net::SPREAD;
use crate::mm::calls::CALLS;
use crate::mm::{BLOCK_SHIFT, BLOCKS, MORE_BLOCKS, WATCHED, Watched};
use crate::srcu::{SYSTEM_CALLS, Srcu};
use crate::sync::fence::{CHEAP, MODE};
use crate::thread::offsets;

/// Bytes from the stack pointer of `gate` to that of the site: the way back to the slot, and the red zone.
const TO_SITE: usize = 8 + 128;

/// The registers of a system call, as `gate` lays them out on the stack. The result takes the number's place.
#[repr(C)]
#[derive(Debug)]
pub(in crate::live) struct Registers {
    /// The mask of signals that `gate` sets in the end, if it is told to.
    pub mask: u64,
    /// rax: the number; afterwards the result.
    pub number: usize,
    /// rdi, rsi, rdx, r10, r8, r9.
    pub arguments: [usize; 6],
}

impl Registers {
    /// The stack pointer at the site.
    pub(in crate::live) fn stack(&self) -> usize {
        self.gate_stack() + TO_SITE
    }

    /// The stack pointer where `gate` begins, at the way back to the slot: above these registers is rbp.
    pub(in crate::live) fn gate_stack(&self) -> usize {
        core::ptr::from_ref(self).addr() + size_of::<Self>() + 8
    }
}

/// What `gate` does with a number.
#[derive(Clone, Copy)]
enum Class {
    /// Nothing: the slot makes the call.
    Other = 0,
    /// It changes the range that rdi and rsi give.
    Range = 1,
    /// As `Range`, but as `Look` if the third argument has it reach further: PROT_GROWSDOWN of mprotect, MADV_REMOVE of madvise.
    Third = 2,
    /// mmap: as `Range`, if MAP_FIXED is set; otherwise as `Look`, if there is a net.
    Map = 3,
    /// It takes a longer look.
    Look = 4,
    /// ioctl: as `Look`, for the two requests of userfaultfd that change mappings.
    Ioctl = 5,
    /// fallocate: as `Look`, if the mode is one that takes something away.
    Fallocate = 6,
    /// clone: as `Look`, unless the child shares the address space.
    Clone = 7,
}

const CLASSES: usize = 512;

/// The class of each number. Higher numbers are `Other`.
static CLASS: [u8; CLASSES] = {
    let mut class = [Class::Other as u8; CLASSES];
    let ranges = [libc::SYS_munmap, libc::SYS_remap_file_pages];
    let looks = [
        libc::SYS_mremap,
        libc::SYS_brk,
        libc::SYS_shmat,
        libc::SYS_shmdt,
        libc::SYS_process_madvise,
        libc::SYS_ftruncate,
        libc::SYS_truncate,
        libc::SYS_fork,
        libc::SYS_clone3,
    ];
    let mut at = 0;
    while at < ranges.len() {
        class[ranges[at] as usize] = Class::Range as u8;
        at += 1;
    }
    at = 0;
    while at < looks.len() {
        class[looks[at] as usize] = Class::Look as u8;
        at += 1;
    }
    class[libc::SYS_mprotect as usize] = Class::Third as u8;
    class[libc::SYS_pkey_mprotect as usize] = Class::Third as u8;
    class[libc::SYS_madvise as usize] = Class::Third as u8;
    class[libc::SYS_mmap as usize] = Class::Map as u8;
    class[libc::SYS_fallocate as usize] = Class::Fallocate as u8;
    class[libc::SYS_ioctl as usize] = Class::Ioctl as u8;
    class[libc::SYS_clone as usize] = Class::Clone as u8;
    class
};

/// Is an instruction that makes this system call taken over? Not that of clone3, by which libc starts threads: who forks by
/// clone3 calls syscall().
pub(in crate::live) fn is_known(number: usize) -> bool {
    let class = CLASS.get(number);
    number != libc::SYS_clone3 as usize && class.is_some_and(|class| *class != Class::Other as u8)
}

/// Is it one that changes mappings, whatever its arguments are?
pub(in crate::live) fn is_memory(number: usize) -> bool {
    let ranges = [Class::Range as u8, Class::Third as u8];
    let class = CLASS.get(number);
    class.is_some_and(|class| ranges.contains(class) || number == libc::SYS_mremap as usize)
}

/// Room for what XSAVE stores of x87, SSE, AVX and AVX-512, with its header.
const SAVE_AREA: usize = 2752;
/// And for what moves store: the registers, the masks, MXCSR. The stack may be small.
const MOVE_AREA: usize = 32 * 64 + 8 * 8 + 8;

/// Which vector state is saved: the bits of XCR0 for it; 0 if the processor has no XSAVE, and FXSAVE has to do.
static SAVED: crate::sync::AtomicU32 = crate::sync::AtomicU32::new(0);

/// How vector registers are saved by moves, which is several times as fast as XSAVE: as they are named. 0: not. XSAVE it is
/// also if the x87 is in use, which has no moves.
static MOVES: crate::sync::AtomicU32 = crate::sync::AtomicU32::new(0);
const XMM: u32 = 1;
const YMM: u32 = 2;
const ZMM: u32 = 3;

/// How a processor that has enabled the state `mask` is best saved.
fn moves(mask: u64) -> u32 {
    use core::arch::x86_64::{__cpuid, __cpuid_count};
    /// XGETBV says what is in use.
    const IN_USE: u32 = 1 << 2;
    /// The masks have 64 bits.
    const AVX512BW: u32 = 1 << 30;
    const AVX: u64 = 1 << 2;
    const AVX512: u64 = 0b1110_0000;
    #[expect(unused_unsafe, reason = "newer compilers know it to be safe")]
    // SAFETY: Every x86-64 processor has the instruction, and one that enables XSAVE these leaves.
    let (state, features) = unsafe { (__cpuid_count(13, 1).eax, __cpuid(7).ebx) };
    match mask & AVX512 {
        _ if mask == 0 || state & IN_USE == 0 => 0,
        AVX512 if features & AVX512BW != 0 => ZMM,
        0 if mask & AVX != 0 => YMM,
        0 => XMM,
        _ => 0,
    }
}

/// Finds out how vector registers are saved.
pub(in crate::live) fn prepare() {
    use core::arch::x86_64::{__cpuid, _xgetbv};
    const OSXSAVE: u32 = 1 << 27;
    /// x87, SSE, AVX, and the three parts of AVX-512. Not AMX: nothing here touches its tiles.
    const KNOWN: u64 = 0b1110_0111;
    #[target_feature(enable = "xsave")]
    fn enabled() -> u64 {
        // SAFETY: Register 0 exists where the processor has XSAVE.
        unsafe { _xgetbv(0) }
    }
    #[expect(unused_unsafe, reason = "newer compilers know it to be safe")]
    // SAFETY: Every x86-64 processor has the instruction.
    let features = unsafe { __cpuid(1) }.ecx;
    let mask = if features & OSXSAVE == 0 {
        0
    } else {
        // SAFETY: The system has enabled XSAVE.
        unsafe { enabled() & KNOWN }
    };
    // ORDERING: Relaxed, both: sites are patched later.
    SAVED.store(mask as u32, crate::sync::Ordering::Relaxed);
    MOVES.store(moves(mask), crate::sync::Ordering::Relaxed);
}

unsafe extern "C" {
    /// See the module comment. Not to be called, nor the next three.
    #[link_name = "mmu_notifier_live_gate"]
    fn gate();
    #[link_name = "mmu_notifier_live_gate_range"]
    fn gate_range();
    #[link_name = "mmu_notifier_live_gate_third"]
    fn gate_third();
    #[link_name = "mmu_notifier_live_gate_map"]
    fn gate_map();
}

/// Where a slot enters.
#[derive(Clone, Copy)]
pub(in crate::live) enum Entry {
    /// With any number.
    Any = 0,
    /// With one of `Class::Range`.
    Range = 1,
    /// With one of `Class::Third`.
    Third = 2,
    /// With that of mmap.
    Map = 3,
}

impl Entry {
    /// That of sites with this number. None: their callers'.
    pub(in crate::live) fn of(number: Option<usize>) -> Self {
        const RANGE: u8 = Class::Range as u8;
        const THIRD: u8 = Class::Third as u8;
        const MAP: u8 = Class::Map as u8;
        match number.and_then(|number| CLASS.get(number)) {
            Some(&RANGE) => Self::Range,
            Some(&THIRD) => Self::Third,
            Some(&MAP) => Self::Map,
            _ => Self::Any,
        }
    }
}

/// The addresses of the entries.
pub(in crate::live) fn addresses() -> [usize; 4] {
    let entries: [unsafe extern "C" fn(); 4] = [gate, gate_range, gate_third, gate_map];
    entries.map(|entry| entry as *const () as usize)
}

global_asm!(
    ".pushsection .text.mmu_notifier_live_gate,\"ax\",@progbits",
    ".balign 64",
    ".globl mmu_notifier_live_gate",
    ".hidden mmu_notifier_live_gate",
    ".type mmu_notifier_live_gate, @function",
    "mmu_notifier_live_gate:",
    // For who unwinds, the caller is the site: the slot, whose return address lies in front of the red zone, knows where it goes on.
    ".cfi_startproc",
    ".cfi_def_cfa rsp, {to_site}",
    // DW_CFA_val_expression of rip, 8 bytes: *(*(CFA - TO_SITE) + AFTER).
    ".cfi_escape 0x16, 0x10, 8, 0x0b, (-{to_site}) & 0xff, 0xff, 0x22, 0x06, 0x23, {after}, 0x06",
    "endbr64",
    "38:",
    "cmp rax, {classes}",
    "jae 36f",
    "lea r11, [rip + {class}]",
    "movzx r11d, byte ptr [r11 + rax]",
    "cmp r11d, {range}",
    "jb 9f",
    "je 2f",
    "cmp r11d, {third}",
    "je 33f",
    "cmp r11d, {map}",
    "je 1f",
    "cmp r11d, {look}",
    "je 5f",
    "cmp r11d, {ioctl}",
    "je 4f",
    "cmp r11d, {fallocate}",
    "je 34f",
    // clone
    "test edi, {clone_vm}",
    "jnz 9f",
    "jmp 5f",
    // For the kernel a number has 32 bits.
    "36:",
    "mov r11d, eax",
    "cmp r11, rax",
    "je 9f",
    "mov eax, eax",
    "jmp 38b",
    "4:",
    "cmp esi, {uffdio_move}",
    "je 5f",
    "cmp esi, {uffdio_writeprotect}",
    "je 5f",
    "9:",
    "stc",
    "ret",
    "34:",
    "test esi, {takes_away}",
    "jnz 5f",
    "jmp 9b",
    ".globl mmu_notifier_live_gate_third",
    ".hidden mmu_notifier_live_gate_third",
    "mmu_notifier_live_gate_third:",
    "endbr64",
    "33:",
    "test edx, {grows_down}",
    "jnz 5f",
    "cmp edx, {remove}",
    "jne 2f",
    "jmp 5f",
    // mmap that replaces nothing: what it maps may have to be put into the net.
    "35:",
    "cmp dword ptr [rip + {net}], 0",
    "je 9b",
    "jmp 5f",
    // mmap
    ".globl mmu_notifier_live_gate_map",
    ".hidden mmu_notifier_live_gate_map",
    "mmu_notifier_live_gate_map:",
    "endbr64",
    "1:",
    "test r10d, {map_fixed}",
    "jz 35b",
    // Whole huge pages may go: a longer look.
    "test r10d, {map_hugetlb}",
    "jnz 5f",
    "test r10d, {map_anonymous}",
    "jz 5f",
    "jmp 2f",
    ".globl mmu_notifier_live_gate_range",
    ".hidden mmu_notifier_live_gate_range",
    "mmu_notifier_live_gate_range:",
    "endbr64",
    // The thread: no lock held, in no section, in no callback.
    "2:",
    "mov rcx, qword ptr [rip + mmu_notifier_thread_words@GOTTPOFF]",
    "cmp dword ptr fs:[rcx + 8], 0",
    "jne 5f",
    "mov r11, qword ptr fs:[rcx]",
    "test r11, r11",
    "jz 5f",
    "cmp qword ptr [r11 + {calls_number}], 0",
    "jne 5f",
    "cmp qword ptr [r11 + {top}], 0",
    "jne 5f",
    "cmp dword ptr [rip + {mode}], {cheap}",
    "jne 5f",
    // Note where the stack is, and enter the section.
    "mov qword ptr fs:[rcx + 16], rsp",
    "mov rcx, r11",
    "mov r11, qword ptr [rip + {calls} + {now}]",
    "mov qword ptr [rcx + {calls_number}], r11",
    // Look.
    "cmp dword ptr [rip + {watched} + {fast}], 0",
    "je 3f",
    "cmp dword ptr [rip + {watched} + {everything}], 0",
    "jne 3f",
    "lea r11, [rdi + rsi + 4095]",
    "cmp r11, rdi",
    "jb 3f",
    "cmp rdi, qword ptr [rip + {watched} + {last}]",
    "ja 6f",
    "cmp r11, qword ptr [rip + {watched} + {first}]",
    "jb 6f",
    // In the hull: look at the blocks from the first one, in rcx, on; there are r11 more.
    "push rdx",
    ".cfi_adjust_cfa_offset 8",
    "and r11, -4096",
    "dec r11",
    "shr r11, {block_shift}",
    "mov rcx, rdi",
    "shr rcx, {block_shift}",
    "lea rdx, [rip + {watched} + {blocks}]",
    "sub r11, rcx",
    "jnz 31f",
    "and ecx, {last_block}",
    "cmp dword ptr [rdx + 4 * rcx], 0",
    "jne 32f",
    "pop rdx",
    ".cfi_adjust_cfa_offset -8",
    // Nobody: make the call, and leave the section.
    "6:",
    "syscall",
    "mov rcx, qword ptr [rip + mmu_notifier_thread_words@GOTTPOFF]",
    "mov r11, qword ptr fs:[rcx]",
    "mov qword ptr [r11 + {calls_number}], 0",
    "mov qword ptr fs:[rcx + 16], 0",
    "cmp dword ptr [r11 + {calls_awaited}], 0",
    "jne 7f",
    "clc",
    "ret",
    // More than one block.
    "31:",
    ".cfi_adjust_cfa_offset 8",
    "cmp r11, {more_blocks}",
    "ja 32f",
    "37:",
    "and ecx, {last_block}",
    "cmp dword ptr [rdx + 4 * rcx], 0",
    "jne 32f",
    "inc ecx",
    "dec r11",
    "jns 37b",
    "pop rdx",
    ".cfi_adjust_cfa_offset -8",
    "jmp 6b",
    // Somebody may: leave the section again, and have a longer look. It tells who waits for that.
    "32:",
    ".cfi_adjust_cfa_offset 8",
    "pop rdx",
    ".cfi_adjust_cfa_offset -8",
    "mov rcx, qword ptr [rip + mmu_notifier_thread_words@GOTTPOFF]",
    "mov rcx, qword ptr fs:[rcx]",
    "3:",
    "mov qword ptr [rcx + {calls_number}], 0",
    "5:",
    "lea r11, [rip + {hook}]",
    "jmp 8f",
    "7:",
    "lea r11, [rip + {after_awaited}]",
    // Calls r11 with the registers, and takes them back from there. What it returns becomes CF, and says whether a mask is to be set.
    "8:",
    "push rbp",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_rel_offset rbp, 0",
    "mov rbp, rsp",
    ".cfi_def_cfa_register rbp",
    "push r9",
    "push r8",
    "push r10",
    "push rdx",
    "push rsi",
    "push rdi",
    "push rax",
    "push 0",
    "mov rdi, rsp",
    // By moves, if the x87 is not in use. If it is afterwards, its flags are those of a fresh one again.
    "cmp dword ptr [rip + {moves}], 0",
    "je 24f",
    "mov ecx, 1",
    "xgetbv",
    "test al, 1",
    "jnz 24f",
    "sub rsp, {move_area}",
    "and rsp, -64",
    "stmxcsr [rsp + 2112]",
    "cmp dword ptr [rip + {moves}], {ymm}",
    "ja 26f",
    "je 25f",
    ".irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "movups [rsp + 64*\\i], xmm\\i",
    ".endr",
    "jmp 27f",
    "25:",
    ".irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "vmovups [rsp + 64*\\i], ymm\\i",
    ".endr",
    "jmp 27f",
    "26:",
    ".irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "vmovups [rsp + 64*\\i], zmm\\i",
    ".endr",
    ".irp i, 0,1,2,3,4,5,6,7",
    "kmovq [rsp + 2048 + 8*\\i], k\\i",
    ".endr",
    "27:",
    "call r11",
    "mov r11d, eax",
    "mov ecx, 1",
    "xgetbv",
    "test al, 1",
    "jz 28f",
    "fninit",
    "28:",
    "mov ecx, r11d",
    "ldmxcsr [rsp + 2112]",
    "cmp dword ptr [rip + {moves}], {ymm}",
    "ja 30f",
    "je 29f",
    ".irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "movups xmm\\i, [rsp + 64*\\i]",
    ".endr",
    "jmp 22f",
    "29:",
    ".irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "vmovups ymm\\i, [rsp + 64*\\i]",
    ".endr",
    "jmp 22f",
    "30:",
    ".irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "vmovups zmm\\i, [rsp + 64*\\i]",
    ".endr",
    ".irp i, 0,1,2,3,4,5,6,7",
    "kmovq k\\i, [rsp + 2048 + 8*\\i]",
    ".endr",
    "jmp 22f",
    "24:",
    "sub rsp, {save_area}",
    "and rsp, -64",
    "mov eax, dword ptr [rip + {saved}]",
    "test eax, eax",
    "jz 21f",
    "xor edx, edx",
    "mov qword ptr [rsp + 512], rdx",
    "mov qword ptr [rsp + 520], rdx",
    "mov qword ptr [rsp + 528], rdx",
    "mov qword ptr [rsp + 536], rdx",
    "mov qword ptr [rsp + 544], rdx",
    "mov qword ptr [rsp + 552], rdx",
    "mov qword ptr [rsp + 560], rdx",
    "mov qword ptr [rsp + 568], rdx",
    "xsave64 [rsp]",
    "call r11",
    "mov ecx, eax",
    "mov eax, dword ptr [rip + {saved}]",
    "xor edx, edx",
    "xrstor64 [rsp]",
    "jmp 22f",
    "21:",
    "fxsave64 [rsp]",
    "call r11",
    "mov ecx, eax",
    "fxrstor64 [rsp]",
    "22:",
    // Signals that were blocked come now: their handlers see a call that is over, and may leave by longjmp(), or unwind.
    "test ecx, {with_mask}",
    "jz 23f",
    "mov dword ptr [rsp], ecx",
    "mov eax, {set_mask}",
    "mov edi, {sig_setmask}",
    "lea rsi, [rbp - 64]",
    "xor edx, edx",
    "mov r10d, 8",
    "syscall",
    "mov ecx, dword ptr [rsp]",
    "23:",
    "lea rsp, [rbp - 56]",
    "pop rax",
    "pop rdi",
    "pop rsi",
    "pop rdx",
    "pop r10",
    "pop r8",
    "pop r9",
    "pop rbp",
    ".cfi_def_cfa rsp, {to_site}",
    ".cfi_restore rbp",
    "test ecx, {away}",
    "jnz 37f",
    "shr ecx, 1",
    "ret",
    // A child with a stack of its own goes on behind the site, there.
    "37:",
    "mov rcx, qword ptr [rsp]",
    "mov rcx, qword ptr [rcx + {after}]",
    "mov rsp, qword ptr [rsp - 72]",
    "notrack jmp rcx",
    ".cfi_endproc",
    ".size mmu_notifier_live_gate, . - mmu_notifier_live_gate",
    ".popsection",
    classes = const CLASSES,
    class = sym CLASS,
    range = const Class::Range as u32,
    fallocate = const Class::Fallocate as u32,
    takes_away = const crate::live::events::files::FALLOC_TAKES_AWAY,
    to_site = const TO_SITE,
    after = const slot::AFTER,
    with_mask = const MASK,
    away = const AWAY,
    set_mask = const libc::SYS_rt_sigprocmask,
    sig_setmask = const libc::SIG_SETMASK,
    third = const Class::Third as u32,
    grows_down = const crate::live::events::classify::PROT_GROWSDOWN,
    remove = const libc::MADV_REMOVE,
    map = const Class::Map as u32,
    look = const Class::Look as u32,
    ioctl = const Class::Ioctl as u32,
    clone_vm = const libc::CLONE_VM,
    uffdio_move = const crate::live::events::classify::UFFDIO_MOVE as u32 as i32,
    uffdio_writeprotect = const crate::live::events::classify::UFFDIO_WRITEPROTECT as u32 as i32,
    map_fixed = const libc::MAP_FIXED,
    net = sym SPREAD,
    calls_number = const offsets::number(SYSTEM_CALLS),
    calls_awaited = const offsets::awaited(SYSTEM_CALLS),
    map_hugetlb = const libc::MAP_HUGETLB,
    map_anonymous = const libc::MAP_ANONYMOUS,
    top = const offsets::TOP,
    mode = sym MODE,
    cheap = const CHEAP,
    calls = sym CALLS,
    now = const Srcu::<SYSTEM_CALLS>::NOW,
    watched = sym WATCHED,
    fast = const offset_of!(Watched, fast),
    everything = const offset_of!(Watched, everything),
    first = const offset_of!(Watched, first),
    last = const offset_of!(Watched, last),
    blocks = const offset_of!(Watched, blocks),
    last_block = const BLOCKS - 1,
    more_blocks = const MORE_BLOCKS,
    block_shift = const BLOCK_SHIFT,
    hook = sym hook,
    after_awaited = sym after_awaited,
    save_area = const SAVE_AREA,
    move_area = const MOVE_AREA,
    saved = sym SAVED,
    moves = sym MOVES,
    ymm = const YMM,
);
