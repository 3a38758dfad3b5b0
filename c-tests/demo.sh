#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# The demo, shortened: it finds nothing wrong with the driver as it is, and every seeded mistake.
set -u
cd "$(dirname "$0")/.."
passed=0 failed=0
log=build/demo.log
expect() { # STATUS TEXT MAKE-ARGUMENTS...
	local status=$1 text=$2
	shift 2
	make -s demo "$@" >"$log" 2>&1
	# make turns any status of the program into its own 2, and names the program's in a line of its own
	if [ "$status" -eq 0 ]; then grep -q "Error" "$log"; wrong=$((1 - $?)); else grep -q "Error $status" "$log"; wrong=$?; fi
	if [ "$wrong" -eq 0 ] && grep -qE "$text" "$log"; then passed=$((passed + 1)); else
		failed=$((failed + 1))
		echo "FAIL make demo $*"
		tail -n 30 "$log"
	fi
}
expect 0 'stale accesses *:? *0' TIME=2
for mode in set_seq retry keep; do
	expect 1 '^caught: [1-9][0-9]* stale' BROKEN=$mode TIME=2
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
