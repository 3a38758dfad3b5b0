#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# No part of the tests counts as passed that was not: tally.sh on what parts may print.
set -u
cd "$(dirname "$0")"
. ./tally.sh
log=$(mktemp)
trap 'rm -f "$log"' EXIT
good=0 bad=0

# expect SUM STATUS TEXT: `P F S` of a part that prints TEXT and ends with STATUS.
expect() {
	printf '%b' "$3" >"$log"
	tally "$log" "$2"
	if [ "$p $f $s" = "$1" ]; then good=$((good + 1)); else
		bad=$((bad + 1))
		echo "FAIL tally of '$3', status $2: $p $f $s ($why), not $1"
	fi
}

expect '3 0 0' 0 '3 passed, 0 failed\n'
expect '3 0 2' 0 'SKIP one: a reason\nSKIP two: a reason\n3 passed, 0 failed, 2 skipped\n'
expect '3 0 2' 0 'SKIP both: a reason\n3 passed, 0 failed, 2 skipped (and more)\n'
expect '12 0 0' 0 'test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured\ntest result: ok. 7 passed; 0 failed; 0 ignored\n'
expect '5 0 1' 0 'test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured\n'
expect '5 2 0' 101 'test result: FAILED. 5 passed; 2 failed; 0 ignored\n'
expect '8 1 0' 1 'ok   a: 4 passed, 0 failed, 0 skipped\n8 passed, 1 failed, 0 skipped\n'
# A part that says nothing, that counts nothing, that is killed, or whose status belies its sum.
expect '0 1 0' 0 ''
expect '0 1 0' 0 'all is well\n'
expect '0 1 0' 0 'ok   a: 4 passed, 0 failed\n'
expect '0 1 0' 0 '0 passed, 0 failed, 0 skipped\n'
expect '0 1 0' 0 'test result: ok. 0 passed; 0 failed; 0 ignored\n'
expect '0 1 0' 137 'ok   a: 4 passed'
expect '3 1 0' 137 '3 passed, 0 failed, 0 skipped\n'
expect '3 1 0' 1 '3 passed, 0 failed\n'
expect '3 1 0' 1 '3 passed, 1 failed\n'
# A skip that is not counted, and one without a reason.
expect '3 1 0' 0 'SKIP one: a reason\n3 passed, 0 failed, 0 skipped\n'
expect '3 1 1' 0 'SKIPPED: one: a reason\nSKIPPED: two: a reason\n3 passed, 0 failed, 1 skipped\n'
expect '3 1 2' 0 '3 passed, 0 failed, 2 skipped\n'

echo "$good passed, $bad failed, 0 skipped"
[ "$bad" -eq 0 ]
