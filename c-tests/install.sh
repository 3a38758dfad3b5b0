#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# What a packager and a user of an install see: the files, the ways to link, the SONAME, the exports, uninstall.
set -u
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
check() { # NAME COMMAND...
	local name=$1
	shift
	if "$@" >"$work/log" 2>&1; then passed=$((passed + 1)); else
		failed=$((failed + 1))
		echo "FAIL $name"
		tail -n 20 "$work/log"
	fi
}
prefix=$work/a\ prefix/usr
prefix=${prefix// /-}
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
library=$prefix/lib/libmmu_notifier.so.$version

cat >"$work/prog.c" <<'C'
#include <linux/mmu_notifier.h>
#include <linux/sched/mm.h>
#include <mmu_notifier/version.h>
#include <string.h>
static int seen;
static bool invalidate(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *range, unsigned long seq)
{
	(void)range;
	mmu_interval_set_seq(sub, seq);
	seen++;
	return true;
}
static const struct mmu_interval_notifier_ops ops = { .invalidate = invalidate };
int main(void)
{
	struct mmu_interval_notifier sub;
	struct mmu_notifier_range range;
	struct mm_struct *mm = mm_alloc();

	if (mmu_interval_notifier_insert(&sub, mm, 0x1000, 0x1000, &ops))
		return 1;
	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, mm, 0x1000, 0x2000);
	mmu_notifier_invalidate_range_start(&range);
	mmu_notifier_invalidate_range_end(&range);
	mmu_interval_notifier_remove(&sub);
	mmput(mm);
	mmu_notifier_synchronize();
	return seen != 1 || strcmp(mmu_notifier_version(), MMU_NOTIFIER_VERSION);
}
C

install_into() { make -s install PREFIX="$prefix"; }
compile_shared() { # -lmmu_notifier would find the archive, too
	gcc "$work/prog.c" -o "$work/shared" $(pkg-config --cflags --libs mmu_notifier) &&
		readelf -d "$work/shared" | grep -q 'NEEDED.*\[libmmu_notifier\.so\.0\]' &&
		LD_LIBRARY_PATH=$prefix/lib "$work/shared"
}
compile_archive() { # the .a alone, on dynamic glibc
	gcc "$work/prog.c" -o "$work/archive" $(pkg-config --cflags mmu_notifier) "$prefix/lib/libmmu_notifier.a" &&
		! readelf -d "$work/archive" | grep -q libmmu_notifier && "$work/archive"
}
compile_static() {
	gcc -static "$work/prog.c" -o "$work/static" $(pkg-config --static --cflags --libs mmu_notifier) &&
		! readelf -d "$work/static" | grep -q NEEDED && "$work/static"
}
compile_without_define() { # a driver author without pkg-config's -D
	gcc "$work/prog.c" -o "$work/plain" -I"$prefix/include/mmu_notifier" -L"$prefix/lib" -lmmu_notifier
}
has_soname() { readelf -d "$library" | grep -q 'SONAME.*\[libmmu_notifier\.so\.0\]'; }
documented() { sed -n '/^global:/,/^local:/s/^\t\([A-Za-z_0-9]*\);$/\1/p' ffi/mmu_notifier.map | sort; }
declared() { # what the headers declare as functions of the library
	awk '/^[a-z].*\(/ && !/^typedef/ && !/^static/ { match($0, /[A-Za-z_0-9]+\(/); print substr($0, RSTART, RLENGTH - 1) }' \
		"$prefix"/include/mmu_notifier/mmu_notifier/*.h "$prefix"/include/mmu_notifier/mmu_notifier/abi/*.h | sort -u
}
exports_shared() {
	readelf -W --dyn-syms "$library" |
		awk '$5 == "GLOBAL" && $7 != "UND" && $8 ~ /@/ { split($8, n, "@+"); print n[1], n[2] }' |
		grep -v '^MMU_NOTIFIER_' | sort >"$work/exports"
	documented | sed 's/$/ MMU_NOTIFIER_0.1/' | diff - "$work/exports"
}
exports_archive() {
	readelf -Ws "$prefix/lib/libmmu_notifier.a" |
		awk '($5 == "GLOBAL" || $5 == "WEAK") && $7 != "UND" && $4 ~ /FUNC|OBJECT|NOTYPE/ { print $8 }' | sort -u |
		diff <(documented) -
}
demands_of_archive() { # a program that refers to such a name weakly would not link, and Rust's standard library does
	readelf -rW "$prefix/lib/libmmu_notifier.a" 2>/dev/null | awk '{ print $5 }' | sort -u >"$work/used"
	! readelf -sW "$prefix/lib/libmmu_notifier.a" | awk '$5 == "GLOBAL" && $7 == "UND" { print $8 }' | sort -u |
		comm -23 - "$work/used" | grep .
}
exports_are_declared() { diff <(documented) <(declared); }
hardened() {
	readelf -dW "$library" | grep -q 'FLAGS_1.*NOW.*NODELETE' && readelf -lW "$library" | grep -q 'GNU_RELRO' &&
		! readelf -lW "$library" | grep 'GNU_STACK' | grep -q RWE && ! readelf -dW "$library" | grep -qE 'RPATH|RUNPATH'
}
destdir_install() {
	make -s install DESTDIR="$work/dest" PREFIX=/opt/x libdir=/opt/x/lib64 &&
		grep -qx 'prefix=/opt/x' "$work/dest/opt/x/lib64/pkgconfig/mmu_notifier.pc" &&
		grep -qx 'libdir=/opt/x/lib64' "$work/dest/opt/x/lib64/pkgconfig/mmu_notifier.pc" &&
		! grep -rqF "$work" "$work/dest/opt/x/lib64/pkgconfig"
}
variant() { # a pkg-config file for each kernel's interface
	local kernel
	for kernel in 5.14:0x050e00 6.1:0x060100 6.3:0x060300 6.6:0x060600 6.10:0x060a00 6.12:0x060c00 7.1:0x070100; do
		pkg-config --cflags "mmu_notifier-${kernel%:*}" | grep -q -- "-DMMU_NOTIFIER_KERNEL=${kernel#*:}" || return 1
		echo '#include <linux/mmu_notifier.h>' |
			gcc -x c -fsyntax-only -Wall -Werror $(pkg-config --cflags "mmu_notifier-${kernel%:*}") - || return 1
	done
	! pkg-config --cflags mmu_notifier | grep -q MMU_NOTIFIER_KERNEL
}
odd_directories() { # an empty PREFIX is the default; what would go elsewhere is refused
	make -s install DESTDIR="$work/empty" PREFIX= && [ -e "$work/empty/usr/local/lib/libmmu_notifier.a" ] &&
		[ "$(ls "$work/empty")" = usr ] &&
		! make -s install PREFIX=relative 2>"$work/refusal" && [ ! -e relative ] &&
		grep 'prefix must be an absolute path' "$work/refusal" &&
		! make -s uninstall DESTDIR="$work/a b" 2>"$work/refusal" && grep 'DESTDIR must not have blanks' "$work/refusal"
}
default_kernel() {
	make -s install DESTDIR="$work/kernel" PREFIX=/usr KERNEL=6.12 &&
		grep -q '^Cflags:.*-DMMU_NOTIFIER_KERNEL=0x060c00' "$work/kernel/usr/lib/pkgconfig/mmu_notifier.pc"
}
uninstall_is_exact() {
	touch "$prefix/lib/libother.a" "$prefix/include/other.h"
	make -s uninstall PREFIX="$prefix" &&
		diff <(cd "$prefix" && find . -type f -o -type l | sort) <(printf './include/other.h\n./lib/libother.a\n') &&
		[ ! -e "$prefix/include/mmu_notifier" ]
}

check "make install PREFIX=" install_into
check "pkg-config, shared" compile_shared
check "the .a alone" compile_archive
check "gcc -static" compile_static
check "without CONFIG_MMU_NOTIFIER on the command line" compile_without_define
check "SONAME" has_soname
check "exports of the shared library" exports_shared
check "globals of the static library" exports_archive
check "the static library demands only what it uses" demands_of_archive
check "the headers declare what is exported" exports_are_declared
check "hardening" hardened
check "make install DESTDIR= PREFIX= libdir=" destdir_install
check "make install with odd directories" odd_directories
check "pkg-config for each kernel" variant
check "make install KERNEL=6.12" default_kernel
check "make uninstall" uninstall_is_exact
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
