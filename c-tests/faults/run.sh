#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Faults: refused memory and threads, forks, vanishing threads, dlclose, signals, sizes; then a small form of each under valgrind
# and AddressSanitizer. Prints each section's seconds.
# Usage: run.sh [SECTION...]   (alloc alloc-static fork threads dl signals sizes valgrind asan)
# FAULTS_SCALE=N runs N percent of each size.
set -u
cd "$(dirname "$0")"
top=$(cd ../.. && pwd)
out=$top/build/faults
mkdir -p "$out"
passed=0 failed=0 skipped=0
cflags=$(pkg-config --cflags mmu_notifier) && libs=$(pkg-config --libs mmu_notifier) || exit 1
libdir=$(pkg-config --variable=libdir mmu_notifier)
mine='-std=gnu11 -O1 -g -Wall -Wextra -Werror'
shared="$libs -Wl,-rpath,$libdir"
static="$libdir/libmmu_notifier.a -ldl -lm -lrt -lpthread"

# build NAME SOURCE FLAGS...: $out/NAME, or one failure.
build() {
	local name=$1 source=$2
	shift 2
	# shellcheck disable=SC2086
	if ! ${CC:-cc} $mine $cflags "$source" -o "$out/$name" "$@" >"$out/$name.log" 2>&1; then
		failed=$((failed + 1))
		echo "FAIL $name does not compile"
		sed 's/^/    /' "$out/$name.log"
		return 1
	fi
}

# check NAME COMMAND...: a program that closes with `N passed, N failed, N skipped`; its failures, skips and numbers are shown.
check() {
	local name=$1 log=$out/$1.log sum status
	shift
	timeout -k 5 "${LIMIT:-200}" "$@" >"$log" 2>&1 </dev/null
	status=$?
	sum=$(tail -n 1 "$log" | grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$') || sum='0 passed, 1 failed, 0 skipped'
	# shellcheck disable=SC2086
	set -- $sum
	[ "$status" -ne 0 ] && [ "$status" -ne 77 ] && [ "$3" -eq 0 ] && set -- "$1" passed, 1
	passed=$((passed + $1)) failed=$((failed + $3)) skipped=$((skipped + ${5:-0}))
	if [ "$3" -ne 0 ]; then
		echo "FAIL $name (status $status)"
		sed 's/^/    /' "$log" | tail -n 60
	else
		sed -n '/^PASS/d; /passed, /d; s/^/    /p' "$log"
	fi
}

section_alloc() { build alloc alloc.c $shared && check alloc "$out/alloc"; }
section_alloc_static() { build alloc-static alloc.c $static && check alloc-static "$out/alloc-static"; }
section_fork() { build fork fork.c $shared && check fork "$out/fork"; }
section_threads() { build threads threads.c $shared && check threads "$out/threads"; }
section_signals() { build signals signals.c $shared && check signals "$out/signals"; }
section_sizes() { build sizes sizes.c $shared && check sizes "$out/sizes"; }
section_dl() {
	build driver.so driver.c -fPIC -shared $shared || return
	build driver-static.so driver.c -fPIC -shared $static || return
	build dl dl.c -rdynamic "-DDRIVER=\"$out/driver.so\"" "-DDRIVER_STATIC=\"$out/driver-static.so\"" \
		"-DLIBRARY=\"$libdir/libmmu_notifier.so.0\"" &&
		check dl "$out/dl"
}

# alloc.c is not for them: a checker has a malloc() of its own, which never refuses. Of fork.c, what does not refuse either.
# Cases end with threads that stand and objects that live, so what is merely still reachable counts for nothing.
section_valgrind() {
	if ! command -v valgrind >/dev/null 2>&1; then
		echo 'SKIP valgrind is not installed'
		skipped=$((skipped + 1))
		return
	fi
	local valgrind='valgrind -q --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite --error-exitcode=9 --fair-sched=yes'
	export FAULTS_SCALE=1
	build threads threads.c $shared && check valgrind-threads $valgrind "$out/threads"
	build sizes sizes.c $shared && check valgrind-sizes $valgrind "$out/sizes"
	build signals signals.c $shared && check valgrind-signals $valgrind "$out/signals" storm handler worker
	# No leaks here: what threads of the parent were in the middle of is lost in a child.
	build fork fork.c $shared &&
		check valgrind-fork $valgrind --leak-check=no "$out/fork" does_not_wait each_callback free_notifier exit_handlers \
			under_load call_srcu a_domain
	unset FAULTS_SCALE
}

section_asan() {
	if ! echo 'int main(void) { return 0; }' | ${CC:-cc} -fsanitize=address -x c -o "$out/probe" - 2>/dev/null || ! "$out/probe"; then
		echo 'SKIP the compiler has no AddressSanitizer'
		skipped=$((skipped + 1))
		return
	fi
	export FAULTS_SCALE=5
	local name
	for name in threads signals sizes; do
		build asan-$name $name.c -fsanitize=address,undefined -fno-sanitize-recover=undefined $static &&
			check asan-$name "$out/asan-$name"
	done
	unset FAULTS_SCALE
}

for section; do
	declare -F "section_${section//-/_}" >/dev/null || { echo "there is no section '$section'" >&2; exit 2; }
done
[ $# -gt 0 ] || set -- alloc alloc-static fork threads dl signals sizes valgrind asan
for section; do
	start=$SECONDS
	"section_${section//-/_}"
	echo "  $section: $((SECONDS - start)) s"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
