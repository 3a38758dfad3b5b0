#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Other machines: the unit tests and the C programs for musl, and for aarch64 under qemu, which emulates the processor of a process
# and passes its system calls on to this machine's kernel. Usage: run.sh [musl|aarch64 ...]
set -u
cd "$(dirname "$0")/../.."
out=$PWD/build/cross
mkdir -p "$out"
export CARGO_PROFILE_DEV_DEBUG=0
FLAGS='-std=gnu11 -O1 -g -Wall -Wextra -Werror -Ic-tests -Iinclude -DCONFIG_MMU_NOTIFIER=1 -pthread'

skip() { # NAME: REASON
	echo "SKIP $1"
	echo '0 passed, 0 failed, 1 skipped'
}

# Is there the target, and are there its tools? Says so if not.
needs() { # TARGET COMMAND...
	local target=$1 command
	shift
	for command; do
		command -v "$command" >/dev/null || { skip "$target: $command is not installed"; return 1; }
	done
	rustup target list --installed 2>/dev/null | grep -qx "$target" || rustup target add "$target" >"$out/log" 2>&1 ||
		{ skip "$target: rustup cannot add it"; return 1; }
}

# The C programs but those that are left out: test_live is about what is refused here (refused.c), test_debug about a library that
# is preloaded, test_versions about several objects.
sources() { # NAME... of others to leave out
	local source name
	echo c-tests/cross/refused.c
	for source in c-tests/test_*.c; do
		name=$(basename "$source" .c)
		case " test_live test_debug test_versions $* " in *" $name "*) continue ;; esac
		case $name in test_layout*) ;; *) echo "$source" ;; esac
	done
}

compile() { # SOURCE DIRECTORY: by $COMPILER, with $LIBRARIES
	$COMPILER $FLAGS -DREASON="\"$REASON\"" "$1" -o "$2/$(basename "$1" .c)" $LIBRARIES
}
export -f compile
export FLAGS COMPILER LIBRARIES REASON

# The unit tests, then the library and the C programs; those are in $out/TARGET then.
build() { # TARGET NAME...
	local target=$1
	shift
	rm -rf "${out:?}/$target"
	mkdir -p "$out/$target"
	cargo clippy --locked -q --target "$target" -p mmu-notifier -p mmu-notifier-ffi -- -D warnings &&
		cargo test --locked -q --target "$target" -p mmu-notifier --lib &&
		cargo rustc --locked -q --target "$target" -p mmu-notifier-ffi --lib --crate-type staticlib &&
		sources "$@" | xargs -P "$(nproc)" -I{} bash -euc 'compile "$1" "$2"' _ {} "$out/$target"
}

part_musl() {
	local target=x86_64-unknown-linux-musl
	needs $target musl-gcc || return 0
	# The kernel's headers are Debian's.
	COMPILER='musl-gcc -static -isystem /usr/include/x86_64-linux-musl -idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu'
	LIBRARIES="target/$target/debug/libmmu_notifier_ffi.a $(rustc --print sysroot)/lib/rustlib/$target/lib/self-contained/libunwind.a"
	REASON="libc's system calls were not found"
	# test_noalloc takes malloc over by glibc's names.
	build $target test_noalloc || return 1
	COMPILER=${COMPILER/ -static/}
	mkdir -p "$out/$target/dynamic" && compile c-tests/cross/refused.c "$out/$target/dynamic" || return 1
	bash c-tests/run.sh "$out/$target"/test_* "$out/$target"/{,dynamic/}refused
}

# Writes a script that emulates a program. Cases that are about the kernel, or about what is printed, and find the
# emulator instead are left out.
emulate() { # PROGRAM
	local leave=()
	case ${1##*/} in
	test_misuse) leave=('-DV_3_a_bug_goes_to_the_handler_then_aborts=qemu prints a line of its own where a program aborts') ;;
	test_producers) leave=('-S4_4_unaligned_addresses=qemu takes any advice for good') ;;
	esac
	mkdir -p "$emulated"
	printf '#!/bin/sh\nexec %s %q %s\n' "$QEMU" "$1" "${leave[*]@Q}" >"$emulated/${1##*/}"
	chmod +x "$emulated/${1##*/}"
}

part_aarch64() {
	local target=aarch64-unknown-linux-gnu program emulated=$out/emulated
	needs $target aarch64-linux-gnu-gcc qemu-aarch64-static || return 0
	QEMU='qemu-aarch64-static -L /usr/aarch64-linux-gnu'
	export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=$QEMU
	COMPILER=aarch64-linux-gnu-gcc
	LIBRARIES="target/$target/debug/libmmu_notifier_ffi.a -lgcc_s -lm"
	REASON='only x86-64 is done'
	# test_membarrier needs seccomp, which qemu does not emulate.
	build $target test_membarrier || return 1
	rm -rf "$emulated"
	for program in "$out/$target"/*; do emulate "$program"; done
	bash c-tests/run.sh "$emulated"/*
}

for part; do
	declare -F "part_$part" >/dev/null || { echo "there is no part '$part'" >&2; exit 2; }
done
sh scripts/tools.sh cross
[ $# -gt 0 ] || set -- musl aarch64
status=0
for part; do
	echo "$part"
	"part_$part" || status=1
done
exit $status
