#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Compiles the programs of live events into OUTDIR, against the staged install, through pkg-config only.
# Usage: build.sh OUTDIR [CFLAGS...]
set -euo pipefail
out=$1
shift
here=$(dirname "$0")
mkdir -p "$out"
flags="-std=gnu11 -O1 -g -Wall -Wextra -Werror $*"
library="$(pkg-config --cflags --libs mmu_notifier) -Wl,-rpath,$(pkg-config --variable=libdir mmu_notifier)"
# The rows see nothing of the library: <linux/...> are the kernel's own headers there.
for rows in "$here"/rows*.c; do
	${CC:-cc} $flags -c "$rows" -o "$out/$(basename "$rows" .c).o" &
done
${CC:-cc} -O1 -shared -fPIC "$here/victim.c" -o "$out/victim.so" -Wl,-z,noseparate-code
wait
${CC:-cc} $flags "$here/table.c" "$out"/rows*.o -o "$out/table" $library -ldl -lpthread
${CC:-cc} $flags "$here/fire.c" -o "$out/fire" $library -lpthread
${CC:-cc} $flags -shared -fPIC "$here/mark.c" -o "$out/mark.so" $library
${CC:-cc} $flags "$here/net.c" -o "$out/net" $library -lpthread
${CC:-cc} $flags "$here/ends.c" -o "$out/ends" $library -lpthread
${CC:-cc} $flags "$here/forks.c" -o "$out/forks" $library -lpthread
${CC:-cc} $flags "$here/reach.c" -o "$out/reach" $library -ldl -lpthread
${CC:-cc} $flags "$here/hard.c" -o "$out/hard" $library -lpthread -lm
${CC:-cc} $flags "$here/early.c" -o "$out/early" $library -lpthread
${CC:-cc} $flags -rdynamic "$here/known.c" -o "$out/known"
