#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# The public ABI against the one that is committed in baseline/: what the library exports, and what a C program that was
# compiled against the headers knows of it, for each layout of the kernel's. Any difference fails, harmless or not;
# `make abi-baseline` takes it over.
#
# guard.sh [--update]   Wants a staged install (pkg-config).
#
# baseline/exports      SONAME, and the symbols of libmmu_notifier.so with their versions
# baseline/KERNEL.abi   abidw's view of a program that is made here. For 6.6, the reference, it points at each export, as the
#                       headers declare it, and has a variable of each type that they define; for the other layouts, of
#                       each type that they lay out differently. That is C's view: the DWARF of the library itself would
#                       drag Rust's types in, and part abi proves that both views are one.
set -u
cd "$(dirname "$0")/../.." || exit 1
here=c-tests/abi/baseline
out=$PWD/build/abi-guard
rm -rf "$out"
mkdir -p "$out" "$here"
export PKG_CONFIG_PATH=${PKG_CONFIG_PATH:-$PWD/build/stage/lib/pkgconfig}
reference=6.6
kernels="5.14 6.3 $reference 6.10 7.1"
passed=0 failed=0 skipped=0

fail() { failed=$((failed + 1)); echo "FAIL $*"; }
close() {
	echo "$passed passed, $failed failed, $skipped skipped"
	[ "$failed" -eq 0 ]
	exit
}

# compare BASELINE COMMAND...: the command, which prints what is different, prints nothing and succeeds.
compare() {
	local baseline=$1 said
	shift
	said=$("$@" 2>&1) && [ -z "$said" ] && { passed=$((passed + 1)); return; }
	fail "$baseline is not what is built here (make abi-baseline, if it is meant):"
	head -n 40 <<<"$said" | sed 's/^/    /'
}

# ------------------------------------------------------------------------------------------------------- the exports

library=$(pkg-config --variable=libdir mmu_notifier)/libmmu_notifier.so
exports() {
	readelf -dW "$library" | sed -n 's/.*(SONAME).*\[\(.*\)\]$/SONAME \1/p'
	# The version itself is an absolute symbol.
	readelf -W --dyn-syms "$library" | awk '$5 ~ /^(GLOBAL|WEAK|UNIQUE)$/ && $7 != "UND" && $7 != "ABS" { print $4, $8 }' |
		LC_ALL=C sort
}
exports >"$out/exports"
if ! grep -q '^SONAME ' "$out/exports" || ! grep -q '^FUNC ' "$out/exports"; then
	fail "no exports found in $library: run make stage"
	close
fi
[ "${1:-}" != --update ] || cp "$out/exports" $here/exports
compare $here/exports diff $here/exports "$out/exports"

# ---------------------------------------------------------------------------------------------------------- the types

if ! command -v abidw >/dev/null 2>&1 || ! command -v abidiff >/dev/null 2>&1; then
	for kernel in $kernels; do
		skipped=$((skipped + 1))
		echo "SKIP $here/$kernel.abi: no abidw and abidiff (libabigail)"
	done
	close
fi

include=$(pkg-config --variable=includedir mmu_notifier)/mmu_notifier
hexadecimal() { awk -F. '{ printf "0x%02x%02x00", $1, $2 }' <<<"$1"; }
includes() { (cd "$include" && find . -name '*.h' | sed 's|^\./\(.*\)|#include <\1>|' | LC_ALL=C sort); }

# preprocess KERNEL [FLAG]: what the headers are for it.
preprocess() {
	includes | ${CC:-cc} -std=gnu11 -DMMU_NOTIFIER_KERNEL="$(hexadecimal "$1")" -I"$include" -E ${2:-} -x c -
}

# types KERNEL PREFIX: each type that is defined in a header of that path, as `struct NAME`, `enum NAME`, or the NAME of a
# typedef.
types() {
	preprocess "$1" | awk -v own="\"$include/$2" '
		/^# [0-9]+ "/ { ours = index($3, own) == 1; next }
		!ours { next }
		/^(struct|union|enum) [a-z_0-9]+ *\{/ { print $1, $2 }
		/^typedef (struct|union|enum) *\{/ { unnamed = 1 }
		/^\} *[a-z_0-9]+;/ && unnamed { gsub(/[^a-z_0-9]/, ""); print; unnamed = 0 }
		/^typedef [a-z_0-9 ]+;/ { sub(/;.*/, ""); print $NF }
		/^typedef .*\(\*[a-z_0-9]+\)/ { match($0, /\(\*[a-z_0-9]+/); print substr($0, RSTART + 2, RLENGTH - 2) }' |
		LC_ALL=C sort -u
}

# The macros that are numbers which programs and the library exchange.
constants() {
	preprocess "$1" -dM | sed -n 's/^#define \(MMU_NOTIFIER_[A-Z_0-9]*\) .*/\1/p' |
		grep -vE '_H$|^MMU_NOTIFIER_(VERSION|KERNEL|ABI_IS_REFERENCE)' | LC_ALL=C sort
}

# The program. What abidw takes up are its variables, and what these lead to.
program() {
	local where=mmu_notifier/abi/structs_
	includes
	if [ "$1" = $reference ]; then
		where=
		sed -n 's/^FUNC \(.*\)@@.*/__typeof__(\1) *abi_function_\1 = \1;/p' "$out/exports"
	fi
	types "$1" "$where" | sed 's/.*/& abi_type_&;/; s/ abi_type_\(struct\|union\|enum\) / abi_type_\1_/'
	echo "enum abi_constants {"
	constants "$1" | sed 's/.*/	abi_constant_& = &,/'
	echo "} abi_constants;"
}

# view KERNEL: the baseline's text, in $out.
view() {
	program "$1" >"$out/$1.c"
	# Not a place of this machine's, which the baseline would name.
	${CC:-cc} -std=gnu11 -g -fPIC -shared -w -ffile-prefix-map="$out=." -DMMU_NOTIFIER_KERNEL="$(hexadecimal "$1")" -I"$include" "$out/$1.c" \
		-o "$out/$1.so" >"$out/$1.log" 2>&1 &&
		abidw --no-corpus-path --no-comp-dir-path --no-show-locs --no-elf-needed --type-id-style hash --no-architecture \
			"$out/$1.so" --out-file "$out/$1.abi" >>"$out/$1.log" 2>&1
}
for kernel in $kernels; do
	if ! view "$kernel"; then
		fail "the headers for $kernel do not declare what is exported:"
		grep -E 'error|abidw' "$out/$kernel.log" | head -n 10 | sed 's/^/    /'
		continue
	fi
	[ "${1:-}" != --update ] || cp "$out/$kernel.abi" "$here/$kernel.abi"
	compare "$here/$kernel.abi" abidiff --harmless --no-architecture "$here/$kernel.abi" "$out/$kernel.abi"
done
close
