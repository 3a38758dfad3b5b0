#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# The multi-threaded stress with invariants: at full speed against the shared library, then shorter under valgrind.
# Usage: stress.sh SECONDS
set -u
cd "$(dirname "$0")/.."
seconds=${1:-20}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0 skipped=0
count() { if [ "$1" -eq 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi; }

libdir=$(pkg-config --variable=libdir mmu_notifier)
${CC:-cc} -std=gnu11 -O2 -g c-tests/conformance/mnstress.c -o "$work/mnstress" \
	$(pkg-config --cflags --libs mmu_notifier) -Wl,-rpath,"$libdir" || exit 1
seed=${SEED:-$RANDOM}
echo "seed $seed"
"$work/mnstress" -t "$seconds" -s "$seed"
count $?
if command -v valgrind >/dev/null 2>&1; then
	valgrind -q --leak-check=full --error-exitcode=9 "$work/mnstress" -t 5 -s "$seed"
	count $?
else
	echo "SKIP valgrind is not installed"
	skipped=1
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
