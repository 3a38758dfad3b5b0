#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# The registration cache of examples/regcache.c: nothing is stale; with live events off, or the protocol's check left out, the
# same program finds what is. TIME= seconds of the first run (10).
set -u
cd "$(dirname "$0")/../.."
passed=0 failed=0 skipped=0
log=build/live/regcache.log
mkdir -p build/live
program=$(bash c-tests/build.sh build/live examples/regcache.c) || { echo "0 passed, 1 failed, 0 skipped"; exit 1; }

expect() { # STATUS PATTERN ARGUMENTS...: every line of PATTERN is found in the output
	local status=$1 patterns=$2 pattern wrong=0
	shift 2
	timeout 300 "$program" "$@" >"$log" 2>&1
	[ $? -eq "$status" ] || wrong=1
	while read -r pattern; do grep -qE "^$pattern\$" "$log" || wrong=1; done <<<"$patterns"
	if [ "$wrong" -eq 0 ]; then
		passed=$((passed + 1))
		echo "ok   regcache $*: $(tail -n 1 "$log")"
	else
		failed=$((failed + 1))
		echo "FAIL regcache $*"
		cat "$log"
	fi
}

# While the kernel tries to migrate each page of the machine, in vain those that are pinned.
expect_while_compacting() {
	local compact=/proc/sys/vm/compact_memory compacting
	if [ ! -w $compact ]; then
		skipped=$((skipped + 1))
		echo "SKIP regcache while memory is compacted: $compact cannot be written"
		return
	fi
	# No longer than this script runs, however it ends.
	while kill -0 $$ 2>/dev/null && echo 1 >$compact; do :; done &
	compacting=$!
	expect "$@"
	kill $compacting
	wait $compacting 2>/dev/null
}

trusted='changed while registering: +' late='change returned: +'
expect 0 "$trusted 0 of 3 trusted
epoch +0
stale accesses: 0" -t "${TIME:-10}"
expect 0 "$trusted 0 of 3 trusted
$late 0 of 3 while the card had the pages
releases not waited for +0
stale accesses: 0" --blocking -t 5
expect_while_compacting 0 "$trusted 0 of 3 trusted
epoch +0
stale accesses: 0" -t 5
expect 1 "$trusted 3 of 3 trusted
$late 3 of 3 while the card had the pages
stale accesses: [1-9][0-9]*" --off -t 2
expect 1 "$trusted 3 of 3 trusted
stale accesses: [1-9][0-9]*" --forget-retry -t 0
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
