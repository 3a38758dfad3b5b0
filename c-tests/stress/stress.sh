#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Threads against invariants: mnstress for a while, then torture (this folder) at full speed against the shared library,
# under AddressSanitizer and LeakSanitizer with the static one, and under valgrind.
# ThreadSanitizer, helgrind and drd are of no use here: stable rustc does not instrument the core, so the first does not see its
# atomics and takes all that they order for races; the others do not know futexes, nor atomics at all.
# Usage: stress.sh SECONDS (of torture at full speed; the rest is short). SEED=n repeats a run's choices.
set -u
cd "$(dirname "$0")/../.."
seconds=${1:-60}
seed=${SEED:-$RANDOM}
export SEED=$seed
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0 skipped=0
# count NAME STATUS
count() {
	if [ "$2" -eq 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)) && echo "FAIL $1 (status $2, seed $seed)"; fi
}
skip() {
	echo "SKIP $1"
	skipped=$((skipped + 1))
}

libdir=$(pkg-config --variable=libdir mmu_notifier)
flags="-std=gnu11 -g -Wall -Wextra -Werror $(pkg-config --cflags mmu_notifier)"
shared="$(pkg-config --libs mmu_notifier) -Wl,-rpath,$libdir"
static="$libdir/libmmu_notifier.a -lpthread -ldl -lm"
cc=${CC:-cc}
$cc ${flags/-Wextra -Werror/} -O2 c-tests/conformance/mnstress.c -o "$work/mnstress" $shared || exit 1
$cc $flags -O2 c-tests/stress/*.c -o "$work/torture" $shared -ldl || exit 1

echo "seed $seed"
"$work/mnstress" -t 10 -s "$seed"
count mnstress $?
"$work/torture" -t "$seconds"
count torture $?

echo 'int main(void) { return 0; }' >"$work/empty.c"
if $cc -fsanitize=address "$work/empty.c" -o "$work/empty" 2>/dev/null && "$work/empty"; then
	$cc $flags -O1 -DSANITIZED -fsanitize=address -fno-omit-frame-pointer c-tests/stress/*.c -o "$work/torture-asan" $static || exit 1
	ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=0:abort_on_error=0 \
		"$work/torture-asan" -f -t 15 -H 120
	count "torture with AddressSanitizer" $?
else
	skip "torture with AddressSanitizer: $cc cannot make programs with it"
fi
if command -v valgrind >/dev/null 2>&1; then
	$cc $flags -O1 -DSANITIZED c-tests/stress/*.c -o "$work/torture-valgrind" $shared -ldl || exit 1
	valgrind -q --fair-sched=try --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite --error-exitcode=9 \
		--suppressions=c-tests/stress/valgrind.supp --child-silent-after-fork=yes "$work/torture-valgrind" -f -t 15 -H 300
	count "torture under valgrind" $?
else
	skip "torture under valgrind: it is not installed"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
