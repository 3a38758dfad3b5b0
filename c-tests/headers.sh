#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# headers.sh [CFLAGS...] - the hand-written headers in include/ compile without
# a warning: each one alone and twice, all of them with libc's and the kernel's
# uapi headers in either order, in the dialects and with the compilers that
# drivers use; a header whose guard is defined gives way; and the programs in
# headers/ run.  CFLAGS must find the headers; default: -I ../include.
#
# Prints "N passed, N failed, N skipped"; exits with 1 if something failed.

here=$(cd "$(dirname "$0")" && pwd)
include=$here/../include
[ $# -gt 0 ] || set -- "-I$include"

tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
passed=0 failed=0 skipped=0

# check NAME COMMAND...: the command succeeds.
check() {
	name=$1
	shift
	if "$@" >"$tmp/output" 2>&1; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "FAILED: $name"
		sed 's/^/    /' "$tmp/output" | head -n 20
	fi
}

# skip NAME REASON
skip() {
	skipped=$((skipped + 1))
	echo "SKIPPED: $1: $2"
}

# includes HEADER...: a source that includes them.
includes() {
	printf '#include <%s>\n' "$@"
}

headers=$(cd "$include" && find asm linux mmu_notifier -name '*.h' | sort)

# Of libc, with what they clash with; and of the uapi headers, some that use
# the types, and those that ours continue.
others='sys/queue.h sys/user.h sys/param.h sys/mman.h sys/stat.h sys/sysinfo.h
assert.h errno.h limits.h pthread.h sched.h signal.h stdatomic.h stdlib.h
string.h unistd.h asm/types.h linux/futex.h linux/mman.h linux/userfaultfd.h'
cxx_others='algorithm atomic functional memory mutex string thread vector'

# What must still work after everything else was included.
cat >"$tmp/use" <<'EOF'
void use(void *pointer);
static LIST_HEAD(used_list);
static DEFINE_SPINLOCK(used_lock);
void use(void *pointer)
{
	u64 number = PAGE_SIZE + ~PAGE_MASK + PAGE_SHIFT + ULONG_MAX;

	spin_lock(&used_lock);
	if (list_empty(&used_list) && current->mm && IS_ERR(pointer))
		WRITE_ONCE(*(u64 *)pointer, number);
	spin_unlock(&used_lock);
}
EOF

# compile COMPILER... : the dialect $language of the source $tmp/source.
compile() {
	"$@" -Wall -Wextra -Werror -fsyntax-only -x "$language" "$tmp/source"
}

# dialect COMPILER LANGUAGE STANDARD CFLAGS...: all that is only compiled.
dialect() {
	compiler=$1 language=$2 standard=$3
	shift 3
	what="$compiler -std=$standard"
	set -- "$compiler" "$@" "-std=$standard"

	for header in $headers; do
		includes "$header" "$header" >"$tmp/source"
		check "$what: <$header>, twice" compile "$@"
	done

	libraries=$others
	[ "$language" = c ] || libraries="$others $cxx_others"
	for other in $libraries; do
		includes "$other" >"$tmp/other"
		# C++ has no <stdatomic.h> before C++23.
		[ "$language $other" != "c++ stdatomic.h" ] || continue
		cat "$tmp/other" "$tmp/all" "$tmp/use" >"$tmp/source"
		check "$what: <$other>, then ours" compile "$@"
		cat "$tmp/all" "$tmp/other" >"$tmp/source"
		check "$what: ours, then <$other>" compile "$@"
	done

	for kernel in 0x050e00 0x060100 0x060300 0x060c00 0x070100; do
		cat "$tmp/all" "$tmp/use" >"$tmp/source"
		check "$what: for kernel $kernel" compile "$@" -DMMU_NOTIFIER_KERNEL=$kernel
		includes $(echo "$headers" | sort -r) >"$tmp/source"
		check "$what: for kernel $kernel, in reverse order" compile "$@" -DMMU_NOTIFIER_KERNEL=$kernel
	done
	cat "$tmp/all" "$tmp/use" >"$tmp/source"
	check "$what: as a module" compile "$@" -fno-strict-aliasing \
		-D__KERNEL__ -DMODULE -DKBUILD_MODNAME='"x"'
	if [ "$language" = c++ ]; then
		{ echo 'extern "C" {'; cat "$tmp/all" "$tmp/use"; echo '}'; } \
			>"$tmp/source"
		check "$what: in extern \"C\"" compile "$@"
	fi
	cp "$here/headers/prototypes.c" "$tmp/source"
	check "$what: prototypes" compile "$@"
}

# pedantic COMPILER LANGUAGE STANDARD CFLAGS...: all of them with the warnings
# that strict programs switch on.
pedantic() {
	compiler=$1 language=$2 standard=$3
	shift 3
	cat "$tmp/all" >"$tmp/source"
	check "$compiler -std=$standard -Wpedantic -Wconversion" \
		compile "$compiler" "$@" "-std=$standard" -Wpedantic -Wconversion
}

# narrow COMPILER CFLAGS...: a 32-bit program is told why there is nothing.
narrow() {
	compiler=$1
	shift
	includes linux/mmu_notifier.h >"$tmp/source.c"
	! "$compiler" "$@" -m32 -fsyntax-only "$tmp/source.c" >"$tmp/errors" 2>&1 &&
		grep -m 1 'error' "$tmp/errors" | grep 'for 64-bit programs only'
}

# programs COMPILER LANGUAGE STANDARD CFLAGS...: those that run.
programs() {
	compiler=$1 language=$2 standard=$3
	shift 3
	for program in list rbtree interval_tree err_bits \
		once once\ -DMMU_NOTIFIER_EXPLORE \
		brought\ -DHOW=1 brought\ -DHOW=2 brought\ -DHOW=3; do
		what="$compiler -std=$standard: $program"
		how=${program#* } program=${program% *}
		[ "$how" != "$program" ] || how=
		check "$what, build" "$compiler" -O2 -pthread -D_GNU_SOURCE "$@" \
			"-std=$standard" -Wall -Wextra -Werror \
			-x "$language" $how "$here/headers/$program.c" \
			-o "$tmp/program"
		check "$what" "$tmp/program"
	done
}

# Only what the uapi headers have comes of a header whose guard is defined.
guards() {
	for header in $headers; do
		case $header in mmu_notifier/*) continue ;; esac
		guard=MMU_NOTIFIER_$(echo "$header" | tr a-z/. A-Z__)
		check "<$header> says its guard" \
			grep -q "^ \* Guard: $guard\." "$include/$header"
		includes "$header" |
			gcc "$@" "-D$guard" -E -x c - >"$tmp/expanded"
		check "<$header> gives way" \
			awk -v "own=include/$header\"" '
				/^#/ { ours = index($3, own) && !/usr.include/ }
				!/^#/ && ours && NF { print; found = 1 }
				END { exit found }' "$tmp/expanded"
	done
}

# shellcheck disable=SC2086 # a list of words
includes $headers >"$tmp/all"

for pair in gcc/g++ clang/clang++; do
	cc=${pair%/*} cxx=${pair#*/}
	if command -v "$cc" >/dev/null; then
		dialect "$cc" c gnu11 "$@" -D_GNU_SOURCE
		dialect "$cc" c c17 "$@"
		for standard in c11 c17 c2x; do
			pedantic "$cc" c $standard "$@"
		done
		check "$cc -m32" narrow "$cc" "$@"
		programs "$cc" c gnu11 "$@"
	else
		skip "$cc" "not installed"
	fi
	if command -v "$cxx" >/dev/null; then
		dialect "$cxx" c++ c++17 "$@"
		for standard in c++11 c++17 c++20 c++2b; do
			pedantic "$cxx" c++ $standard "$@"
		done
		programs "$cxx" c++ c++17 "$@"
	else
		skip "$cxx" "not installed"
	fi
done
if command -v gcc >/dev/null; then
	guards "$@"
else
	skip guards "gcc is not installed"
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
