#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Installs what the tests need beyond cargo, cc, make, pkg-config and python3, as root with apt; otherwise says what is
# missing, and the tests that want it are skipped with that reason.
set -eu
missing=
want() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
want g++ g++
want clang clang
want valgrind valgrind
want mandoc mandoc
want ld binutils
want strace strace
want sqlite3 sqlite3
want abidiff abigail-tools
# Programs that live events are tried with.
want redis-server redis-server
want redis-cli redis-tools
want node nodejs
want git git
# On request: `tools.sh cross`.
if [ "${1:-}" = cross ]; then
	want musl-gcc musl-tools
	want aarch64-linux-gnu-gcc 'gcc-aarch64-linux-gnu libc6-dev-arm64-cross'
	want qemu-aarch64-static qemu-user-static
fi
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	echo "installing:$missing"
	{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } \
		>/tmp/mmu_notifier-apt.log 2>&1 || { tail -n 5 /tmp/mmu_notifier-apt.log; echo "could not install:$missing"; }
else
	echo "not installed (tests that want them are skipped):$missing"
fi
