#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Other patchers of system calls beside live events (patchers.c). UCX is Debian's libucx0, fetched without being installed.
set -u
cd "$(dirname "$0")/../.."
mkdir -p build/live
program=$(bash c-tests/build.sh build/live c-tests/live/patchers.c) || { echo "0 passed, 1 failed, 0 skipped"; exit 1; }
status=0
for way in foreign foreign-first bypass scrambled; do
	timeout 60 "$program" "$way" || status=1
done
if unpacked=$(bash scripts/fetch.sh --unpack libucx0 2>build/live/fetch.log); then
	libucs=$(find "$unpacked" -name libucs.so.0)
	export LD_LIBRARY_PATH=${libucs%/*}
	timeout 60 "$program" ucx-first "$libucs" || status=1
	timeout 60 "$program" ucx-last "$libucs" || status=1
else
	echo "SKIP UCX, before and after us: $(tail -n 1 build/live/fetch.log)"
	echo "0 passed, 0 failed, 1 skipped"
fi
exit $status
